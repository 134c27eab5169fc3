//! Manifests, indexes and configurations: what is small enough to be held.

use agentkernel_images::Digest;
use agentkernel_unpack::Part;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use crate::RegistryError;
use crate::answer;
use crate::blob::check;
use crate::error::Trouble;
use crate::place::Place;

/// Manifests and indexes, the newest first: those of the OCI image specification, and Docker's.
const KINDS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// What servers say of what they know nothing of.
const ANYTHING: [&str; 4] =
    ["application/json", "application/octet-stream", "text/plain", "binary/octet-stream"];

/// No registry takes a manifest of more bytes (distribution-spec, "Pushing Manifests").
const MAX_MANIFEST: u64 = 4 << 20;

/// What an image's name stands for, and what kind of thing that is, if anybody says so.
pub async fn top(
    place: &Place,
    version: &str,
    digest: Option<&Digest>,
) -> Result<(Vec<u8>, Option<String>), RegistryError> {
    let what = match digest {
        Some(digest) => format!("image {}@{digest}", place.repository),
        None => format!("image {}:{version}", place.repository),
    };
    let ask = async || {
        let (path, kinds) = (format!("manifests/{version}"), KINDS.join(", "));
        let response = place.ask(&path, &what, Some(&kinds), 0).await?;
        let kind = kind(place, &response)?;
        // A name means what the registry says, which says so twice.
        let named = response.headers().get("Docker-Content-Digest");
        let named = named.and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        let content = whole(place, response, MAX_MANIFEST).await?;
        if let Some(expected) = digest.or(named.as_ref()) {
            check(&place.name, expected, &content)?;
        }
        let kind = known(place, kind, &content)?;
        Ok((content, kind))
    };
    place.patience().persist(async |_| ask().await.map_err(|trouble: Trouble| (trouble, 0))).await
}

/// A manifest or a configuration that another one names.
pub async fn small(place: &Place, part: &Part) -> Result<Vec<u8>, RegistryError> {
    let Part { kind, digest, size } = part;
    let what = format!("{digest} of {}", place.repository);
    let ask = async || {
        let response = match KINDS.contains(&kind.as_str()) {
            true => place.ask(&format!("manifests/{digest}"), &what, Some(kind), 0).await?,
            false => place.ask(&format!("blobs/{digest}"), &what, None, 0).await?,
        };
        let content = whole(place, response, *size).await?;
        check(&place.name, digest, &content)?;
        Ok(content)
    };
    place.patience().persist(async |_| ask().await.map_err(|trouble: Trouble| (trouble, 0))).await
}

async fn whole(place: &Place, response: Response, most: u64) -> Result<Vec<u8>, Trouble> {
    let read = answer::read(response, most, place.patience()).await?;
    read.map_err(|unread| unread.of(&place.name, most))
}

/// What an answer says of what it is.
fn kind(place: &Place, response: &Response) -> Result<Option<String>, RegistryError> {
    if answer::is_page(response) {
        let why = "it is a page for people".into();
        return Err(RegistryError::Nonsense { registry: place.name.clone(), why });
    }
    let said = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let said = said.and_then(|said| said.split(';').next()).map(|said| said.trim().to_lowercase());
    Ok(said.filter(|said| !said.is_empty() && !ANYTHING.contains(&said.as_str())))
}

/// The kind that an answer is of, unless it is one that nobody can do anything with.
fn known(
    place: &Place,
    said: Option<String>,
    content: &[u8],
) -> Result<Option<String>, RegistryError> {
    let registry = place.name.clone();
    let Ok(Value::Object(content)) = serde_json::from_slice(content) else {
        let why = "it is no JSON".into();
        return Err(RegistryError::Nonsense { registry, why });
    };
    let inside = content.get("mediaType").and_then(Value::as_str).map(String::from);
    match said.or(inside) {
        Some(kind) if !KINDS.contains(&kind.as_str()) => Err(RegistryError::Refused {
            why: format!("what {registry} has is of an unknown kind: {}", answer::clean(&kind)),
            fix: "push the image again with a tool of this decade, such as skopeo".into(),
        }),
        kind => Ok(kind),
    }
}
