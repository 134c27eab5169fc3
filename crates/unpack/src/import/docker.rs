//! What `docker save` and `podman save` write, of Docker's own form.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use agentkernel_core::Reference;
use agentkernel_images::{Digest, Filling};
use serde::Deserialize;
use serde_json::json;

use super::ImportError;
use super::files::{Files, Packed};
use crate::manifest::Configuration;
use crate::{Part, Source};

/// One image of an archive. It has no manifest of the usual form, so one is made.
pub(super) struct DockerArchive {
    files: Packed,
    path: PathBuf,
    image: Image,
    configuration: Vec<u8>,
    diffs: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl DockerArchive {
    pub fn open(files: Packed, path: &Path, name: Option<&str>) -> Result<Self, ImportError> {
        let bytes = files.read("manifest.json");
        let bytes = bytes.map_err(ImportError::io("can't read the manifest.json of", path))?;
        let images: Vec<Image> = serde_json::from_slice(&bytes)
            .map_err(|error| ImportError::wrong(path, format!("its manifest.json: {error}")))?;
        let there: Vec<String> = images.iter().flat_map(|image| image.tags()).cloned().collect();
        let mut fitting: Vec<Image> = images
            .into_iter()
            .filter(|image| name.is_none_or(|name| image.is_named(name)))
            .collect();
        let image = match (fitting.pop(), name) {
            (Some(image), _) if fitting.is_empty() => image,
            (None, Some(name)) => {
                let name = name.into();
                return Err(ImportError::NoSuch { path: path.into(), name, there });
            }
            (None, None) => return Err(ImportError::wrong(path, "it has no images")),
            _ => return Err(ImportError::Several { path: path.into(), there }),
        };
        let configuration = files.read(&image.config);
        let configuration =
            configuration.map_err(ImportError::io("can't read the configuration in", path))?;
        let said = Configuration::parse(&configuration)?;
        if said.rootfs.diff_ids.len() != image.layers.len() {
            return Err(ImportError::wrong(path, "its configuration has other layers"));
        }
        let diffs = said.rootfs.diff_ids;
        Ok(Self { files, path: path.into(), image, configuration, diffs })
    }

    /// What the image is called in the archive.
    pub fn names(&self) -> Vec<String> {
        self.image.tags().cloned().collect()
    }

    fn open_layer(&self, digest: &Digest) -> Result<(File, u64), ImportError> {
        let name = self.diffs.iter().position(|diff| diff == digest).map(|i| &self.image.layers[i]);
        let opened =
            name.ok_or(io::ErrorKind::NotFound.into()).and_then(|name| self.files.open(name));
        opened.map_err(ImportError::io("can't read a layer in", &self.path))
    }
}

impl Image {
    fn tags(&self) -> impl Iterator<Item = &String> {
        self.repo_tags.iter().flatten()
    }

    fn is_named(&self, name: &str) -> bool {
        let full = |name: &str| Reference::parse(name).ok().map(|reference| reference.in_full());
        self.tags().any(|tag| tag == name || full(tag) == full(name))
    }
}

impl Source for DockerArchive {
    type Error = ImportError;

    fn top(&self) -> Result<(Vec<u8>, Option<String>), ImportError> {
        let mut layers = Vec::new();
        for diff in &self.diffs {
            let (_, size) = self.open_layer(diff)?;
            layers.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": diff, "size": size}));
        }
        Ok((manifest(&self.configuration, &layers), None))
    }

    fn small(&self, _configuration: &Part) -> Result<Vec<u8>, ImportError> {
        Ok(self.configuration.clone())
    }

    /// What it unpacks to is made sure of, and it has no other digest.
    fn layer(
        &self,
        _filling: &Filling,
        part: &Part,
        is_needless: &dyn Fn() -> bool,
        came: &(dyn Fn(u64) + Sync),
    ) -> Result<Option<File>, ImportError> {
        if is_needless() {
            return Ok(None);
        }
        let (file, size) = self.open_layer(&part.digest)?;
        came(size);
        Ok(Some(file))
    }
}

/// A manifest of the OCI specification's for what has none.
pub(super) fn manifest(configuration: &[u8], layers: &[serde_json::Value]) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(configuration),
            "size": configuration.len(),
        },
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}
