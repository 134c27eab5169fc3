//! Who brings images into the store.

use std::ffi::OsStr;
use std::path::Path;

use agentkernel_core::{Pull, Registries};

use crate::{Images, Record};

/// Brings images in: what takes a network and much code, so that not every program has one.
pub trait Porter: Sync {
    /// From the registry that its name leads to, whether it is there already or not, and keeps it
    /// under that name. Of an image for several platforms it is the one for `platform`
    /// (`OS/ARCHITECTURE[/VARIANT]`), or for this machine. Who asks for `wasi/wasm` gets a module or
    /// nothing, and everybody else a module if there is nothing else.
    fn pull(
        &self,
        images: &Images,
        name: &str,
        platform: Option<&str>,
        registries: &Registries,
    ) -> Result<Record, PorterError>;

    /// From a folder, a file or standard input: `oci:DIR[:NAME]`, `rootfs:DIR`, an archive's path, or
    /// `-`. It is kept under `name`, or else under the names that it has there.
    fn import(
        &self,
        images: &Images,
        source: &OsStr,
        name: Option<&str>,
        platform: Option<&str>,
    ) -> Result<Record, PorterError>;

    /// Built from the Dockerfile in `folder` by a container engine that is there, and kept under `name`.
    /// What its Dockerfile begins with is the engine's to fetch, as `pull` says.
    fn build(
        &self,
        images: &Images,
        folder: &Path,
        name: &str,
        pull: Pull,
    ) -> Result<Record, PorterError>;
}

/// Why an image could not be brought in, in the words of the edge: what failed and why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct PorterError {
    pub why: String,
    pub fix: String,
}
