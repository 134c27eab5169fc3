//! Images brought into the store: from registries, folders and archives.

use std::ffi::OsStr;
use std::path::Path;

use agentkernel_containers_api::{DOCKER, PODMAN, build_archive};
use agentkernel_core::{BootError, Pull, Reference, Registries};
use agentkernel_images::{Images, Porter, PorterError, Record};
use agentkernel_registry::{Registry, RegistryError};
use agentkernel_unpack::{BringError, ImportError, Platform, bring, import, import_stream};

/// The porter of this program.
pub struct Everywhere;

impl Porter for Everywhere {
    fn pull(
        &self,
        images: &Images,
        name: &str,
        platform: Option<&str>,
        registries: &Registries,
    ) -> Result<Record, PorterError> {
        let reference = Reference::parse(name).map_err(|why| PorterError {
            why: format!("{name:?} is not the name of an image: {why}"),
            fix: "name it as in debian:13, or ghcr.io/owner/image@sha256:DIGEST".into(),
        })?;
        let registry = Registry::open(&reference, registries)
            .map_err(|error| PorterError { why: error.to_string(), fix: error.hint() })?;
        bring(images, &registry, &[name], &chosen(platform)?).map_err(told)
    }

    fn import(
        &self,
        images: &Images,
        source: &OsStr,
        name: Option<&str>,
        platform: Option<&str>,
    ) -> Result<Record, PorterError> {
        let what = source.to_str().ok_or_else(|| PorterError {
            why: format!("{source:?} is no text"),
            fix: "name it by a path that is".into(),
        })?;
        let Ok(what) = what.parse();
        import(images, &what, name.as_slice(), &chosen(platform)?).map_err(not_imported)
    }

    fn build(
        &self,
        images: &Images,
        folder: &Path,
        name: &str,
        pull: Pull,
    ) -> Result<Record, PorterError> {
        let engines = [&DOCKER, &PODMAN];
        let imported = build_archive(&engines, folder, name, pull, |archive| {
            import_stream(images, archive, &[name], &Platform::host())
        });
        let imported = imported.map_err(|error| match error {
            BootError::Unavailable { why, fix } | BootError::Refused { why, fix } => {
                PorterError { why, fix }
            }
            BootError::Failed { .. } => {
                PorterError { why: error.to_string(), fix: "see what the engine's log says".into() }
            }
        });
        imported?.map_err(not_imported)
    }
}

fn not_imported(error: ImportError) -> PorterError {
    PorterError { why: error.to_string(), fix: error.hint() }
}

/// The platform that was asked for, or this machine's.
fn chosen(platform: Option<&str>) -> Result<Platform, PorterError> {
    match platform {
        None => Ok(Platform::host()),
        Some(text) => text
            .parse()
            .map_err(|why| PorterError { why, fix: "name it as in --platform linux/arm64".into() }),
    }
}

fn told(error: BringError) -> PorterError {
    let of_source = match &error {
        BringError::Source(source) => source.downcast_ref().map(RegistryError::hint),
        _ => None,
    };
    let fix = of_source.or_else(|| error.hint()).unwrap_or_else(|| "please report this".into());
    PorterError { why: error.to_string(), fix }
}
