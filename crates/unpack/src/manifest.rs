//! What manifests, indexes and configurations say, Docker's and those of the OCI specification.

use std::collections::BTreeMap;

use agentkernel_images::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bring::BringError;
use crate::{Part, Platform};

/// How long a manifest, an index or a configuration may be, in bytes.
pub(crate) const LONGEST: u64 = 4 << 20;

/// How many layers an image may have, as for Docker.
const MOST_LAYERS: usize = 127;

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// What an image begins with.
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

pub(crate) struct Manifest {
    pub configuration: Part,
    pub layers: Vec<Part>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub fn part(&self) -> Part {
        Part { kind: self.media_type.clone(), digest: self.digest.clone(), size: self.size }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Document {
    /// Reads what a source says is of the media type `kind`.
    pub fn parse(bytes: &[u8], kind: Option<&str>) -> Result<Self, BringError> {
        let what = "the manifest";
        let wrong = |why: &str| BringError::Document { what, why: why.into() };
        let raw: Raw = read(what, bytes)?;
        if raw.schema_version == Some(1) {
            return Err(BringError::Schema1);
        }
        let said = raw.media_type.as_deref();
        let known = |kind: &&str| INDEXES.contains(kind) || MANIFESTS.contains(kind);
        let kinds: Vec<&str> = [kind, said].into_iter().flatten().filter(known).collect();
        let is_index = kinds.iter().any(|kind| INDEXES.contains(kind));
        // What is both is understood by everyone as he likes.
        if is_index && kinds.iter().any(|kind| MANIFESTS.contains(kind)) {
            return Err(wrong("it is said to be an index and a manifest"));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) if kinds.is_empty() || is_index => {
                Ok(Self::Index(manifests))
            }
            (None, Some(config), Some(layers)) if !is_index => Ok(Self::Manifest(Manifest {
                configuration: config.part(),
                layers: layers.iter().map(Descriptor::part).collect(),
                annotations: raw.annotations.unwrap_or_default(),
            })),
            _ => Err(wrong("it is neither a manifest nor an index")),
        }
    }
}

/// An image's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Configuration {
    #[serde(flatten)]
    pub platform: Platform,
    pub created: Option<String>,
    pub config: Option<Runtime>,
    pub rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    pub diff_ids: Vec<Digest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Runtime {
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
}

impl Configuration {
    /// The program of its commands, which may be relative to where they start.
    pub fn program(&self) -> Option<&str> {
        let config = self.config.as_ref()?;
        [&config.entrypoint, &config.cmd].into_iter().flatten().flatten().next().map(String::as_str)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, BringError> {
        read("the configuration", bytes)
    }

    /// Makes sure that the manifest has this one's layers, all of kinds that can be unpacked.
    pub fn fits(&self, manifest: &Manifest) -> Result<(), BringError> {
        let (layers, diffs) = (manifest.layers.len(), self.rootfs.diff_ids.len());
        if layers != diffs {
            return Err(BringError::Document {
                what: "the manifest",
                why: format!("it has {layers} layers, and its configuration {diffs}"),
            });
        }
        if layers > MOST_LAYERS {
            let why = format!("it has {layers} layers, and {MOST_LAYERS} are possible");
            return Err(BringError::Document { what: "the manifest", why });
        }
        manifest.layers.iter().try_for_each(check_kind)
    }
}

/// Refuses what is no archive of files, or can't be had or read.
fn check_kind(layer: &Part) -> Result<(), BringError> {
    let kind = layer.kind.as_str();
    let refused = |why| BringError::Kind { kind: kind.into(), why };
    if kind.contains("encrypted") {
        return Err(refused("it is encrypted"));
    }
    if kind.contains("foreign") || kind.contains("nondistributable") {
        return Err(refused("it is not to be passed on, and is elsewhere"));
    }
    // How it is packed is seen from it.
    let is_known = kind.starts_with("application/vnd.oci.image.layer.v1.tar")
        || kind.starts_with("application/vnd.docker.image.rootfs.diff.tar");
    if is_known { Ok(()) } else { Err(refused("it is no archive of files")) }
}

pub(crate) fn read<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, BringError> {
    serde_json::from_slice(bytes)
        .map_err(|error| BringError::Document { what, why: error.to_string() })
}
