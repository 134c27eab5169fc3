//! An image that has no manifest of its own, so that one is made: of a root file system, or of what
//! older tools write.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;

use agentkernel_images::{Digest, Filling};
use serde_json::json;

use crate::{Part, Platform, Source};

/// An image in an archive that isn't packed.
pub(super) struct Made {
    file: File,
    manifest: Vec<u8>,
    configuration: Vec<u8>,
    layers: Vec<Found>,
}

/// A layer in the archive.
pub(super) struct Found {
    /// Of what it unpacks to; it has no other digest, and this one is made sure of.
    pub diff: Digest,
    /// Where it is, and how long, in bytes.
    pub at: u64,
    pub size: u64,
}

impl Made {
    /// One of this configuration and its layers, the lowest first.
    pub fn new(file: File, configuration: Vec<u8>, layers: Vec<Found>) -> Self {
        let listed = layers.iter().map(|layer| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer.diff, "size": layer.size})
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(&configuration),
                "size": configuration.len(),
            },
            "layers": listed.collect::<Vec<_>>(),
        });
        Self { file, manifest: manifest.to_string().into_bytes(), configuration, layers }
    }

    /// One whose only layer is the whole archive, a root file system.
    pub fn of_root(file: File, diff: Digest, size: u64, platform: &Platform) -> Self {
        let mut said = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        });
        if let Some(variant) = &platform.variant {
            said["variant"] = variant.as_str().into();
        }
        Self::new(file, said.to_string().into_bytes(), vec![Found { diff, at: 0, size }])
    }
}

impl Source for Made {
    type Error = io::Error;

    fn top(&self) -> io::Result<(Vec<u8>, Option<String>)> {
        Ok((self.manifest.clone(), None))
    }

    fn small(&self, _configuration: &Part) -> io::Result<Vec<u8>> {
        Ok(self.configuration.clone())
    }

    fn layer(
        &self,
        _filling: &Filling,
        part: &Part,
        is_needless: &dyn Fn() -> bool,
        came: &(dyn Fn(u64) + Sync),
    ) -> io::Result<Option<File>> {
        let layer = self.layers.iter().find(|layer| layer.diff == part.digest);
        match layer {
            Some(layer) if !is_needless() => {
                came(layer.size);
                again_at(&self.file, layer.at).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The same file with a place of its own to read from.
pub(super) fn again_at(file: &File, at: u64) -> io::Result<File> {
    let mut again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    again.seek(SeekFrom::Start(at))?;
    Ok(again)
}
