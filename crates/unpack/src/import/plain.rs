//! A root file system in an archive, which becomes an image of one layer.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsRawFd;

use agentkernel_images::{Digest, Filling};
use serde_json::json;

use super::docker::manifest;
use crate::{Part, Platform, Source};

pub(super) struct Plain {
    archive: File,
    manifest: Vec<u8>,
    configuration: Vec<u8>,
}

impl Plain {
    /// One of an archive of this digest and size.
    pub fn new(archive: File, diff: Digest, size: u64, platform: &Platform) -> Self {
        let mut said = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        });
        if let Some(variant) = &platform.variant {
            said["variant"] = variant.as_str().into();
        }
        let configuration = said.to_string().into_bytes();
        let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": diff, "size": size});
        Self { archive, manifest: manifest(&configuration, &[layer]), configuration }
    }
}

impl Source for Plain {
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
        if is_needless() {
            return Ok(None);
        }
        let mut file = File::open(format!("/proc/self/fd/{}", self.archive.as_raw_fd()))?;
        file.rewind()?;
        came(part.size);
        Ok(Some(file))
    }
}
