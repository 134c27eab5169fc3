//! What `docker save` and `podman save` write, of Docker's own form.

use std::path::Path;

use agentkernel_core::Reference;
use serde::Deserialize;

use super::ImportError;
use super::files::{Files, Packed};
use super::made::{Found, Made};
use crate::manifest::Configuration;

/// One image of an archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The image of a name in an archive, and what it is called there.
pub(super) fn open(
    files: Packed,
    path: &Path,
    name: Option<&str>,
) -> Result<(Made, Vec<String>), ImportError> {
    let bytes = files.read("manifest.json");
    let bytes = bytes.map_err(ImportError::io("can't read the manifest.json of", path))?;
    let images: Vec<Image> = serde_json::from_slice(&bytes)
        .map_err(|error| ImportError::wrong(path, format!("its manifest.json: {error}")))?;
    let image = choose(images, path, name)?;
    let configuration = files.read(&image.config);
    let configuration =
        configuration.map_err(ImportError::io("can't read the configuration in", path))?;
    let diffs = Configuration::parse(&configuration)?.rootfs.diff_ids;
    if diffs.len() != image.layers.len() {
        return Err(ImportError::wrong(path, "its configuration has other layers"));
    }
    let mut layers = Vec::new();
    for (diff, name) in diffs.into_iter().zip(&image.layers) {
        let missing = || ImportError::wrong(path, format!("its layer {name} is not there"));
        let (at, size) = files.find(name).ok_or_else(missing)?;
        layers.push(Found { diff, at, size });
    }
    let names = image.tags().cloned().collect();
    Ok((Made::new(files.into_file(), configuration, layers), names))
}

fn choose(images: Vec<Image>, path: &Path, name: Option<&str>) -> Result<Image, ImportError> {
    let there: Vec<String> = images.iter().flat_map(|image| image.tags()).cloned().collect();
    let fits = |image: &Image| name.is_none_or(|name| image.is_named(name));
    let mut fitting: Vec<Image> = images.into_iter().filter(fits).collect();
    match (fitting.pop(), name) {
        (Some(image), _) if fitting.is_empty() => Ok(image),
        (Some(_), _) => Err(ImportError::Several { path: path.into(), there }),
        (None, Some(name)) => {
            Err(ImportError::NoSuch { path: path.into(), name: name.into(), there })
        }
        (None, None) => Err(ImportError::wrong(path, "it has no images")),
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
