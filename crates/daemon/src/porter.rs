//! Images brought into the store: from registries, folders and archives.

use std::ffi::OsStr;
use std::path::Path;

use agentkernel_core::{Reference, Registries};
use agentkernel_images::{Images, Porter, PorterError, Record};
use agentkernel_registry::{Registry, RegistryError};
use agentkernel_unpack::{BringError, Platform, bring};

/// The porter of this program.
pub struct Everywhere;

impl Porter for Everywhere {
    fn pull(
        &self,
        images: &Images,
        name: &str,
        platform: Option<&str>,
    ) -> Result<Record, PorterError> {
        let reference = Reference::parse(name).map_err(|why| PorterError {
            why: format!("{name:?} is not the name of an image: {why}"),
            fix: "name it as in debian:13, or ghcr.io/owner/image@sha256:DIGEST".into(),
        })?;
        let registry = Registry::open(&reference, &Registries::default())
            .map_err(|error| PorterError { why: error.to_string(), fix: error.hint() })?;
        bring(images, &registry, &[name], &chosen(platform)?).map_err(told)
    }

    fn import(
        &self,
        _images: &Images,
        _source: &OsStr,
        _name: Option<&str>,
        _platform: Option<&str>,
    ) -> Result<Record, PorterError> {
        todo!()
    }

    fn build(&self, _images: &Images, _folder: &Path, _name: &str) -> Result<Record, PorterError> {
        todo!()
    }
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
