//! The images that specs name, for backends whose images are in this store.

use agentkernel_core::{self as core, BootError, Module, Pinned, Provision, Pull, Spec};

use crate::{Image, Images, ImagesError, Porter, PorterError};

/// The image that a spec names, held; none if it names none.
pub fn open(spec: &Spec) -> Result<Option<Image>, BootError> {
    let Some(name) = spec.image.reference() else { return Ok(None) };
    let found = Images::of_caller().and_then(|images| images.open(name))?;
    found.map(Some).ok_or_else(|| missing(name))
}

/// See [`Backend::pin`](core::Backend::pin). `modules` is whether the backend's images are those.
pub fn pin(spec: &mut Spec, modules: bool) -> Result<Pinned, BootError> {
    let (core::Image::Reference(name) | core::Image::Module(Module::Named(name))) = &mut spec.image
    else {
        return Ok(Pinned::ByEngine);
    };
    let Some(image) = Images::of_caller()?.open(name)? else { return Ok(Pinned::Missing) };
    if image.module().is_some() != modules {
        return Ok(Pinned::OfOtherKind);
    }
    let tagged = name.split_once('@').map_or(&**name, |(tagged, _)| tagged);
    *name = format!("{tagged}@{}", image.record().manifest);
    Ok(Pinned::Done)
}

/// See [`Backend::provide`](core::Backend::provide). The image is for `platform`, if that is not this
/// machine's.
pub fn provide(
    spec: &Spec,
    platform: Option<&str>,
    provision: &Provision,
    porter: Option<&dyn Porter>,
) -> Result<(), BootError> {
    let Some(name) = spec.image.reference() else { return Ok(()) };
    let images = Images::of_caller()?;
    let brought = match (porter, &provision.build) {
        (Some(porter), Some(folder)) => porter.build(&images, folder, name, provision.pull),
        _ if provision.pull != Pull::Always && images.open(name)?.is_some() => return Ok(()),
        (Some(porter), None) if provision.pull != Pull::Never => {
            porter.pull(&images, name, platform, &provision.registries)
        }
        _ => return Err(missing(name)),
    };
    brought.map(drop).map_err(|PorterError { why, fix }| BootError::Refused { why, fix })
}

fn missing(name: &str) -> BootError {
    BootError::Refused {
        why: format!("the image {name} is not here, and is not to be pulled"),
        fix: format!("pull it once with agentkernel image pull {name}, or allow --pull missing"),
    }
}

impl From<ImagesError> for BootError {
    /// In the words of the edge.
    fn from(error: ImagesError) -> Self {
        Self::Refused { why: error.to_string(), fix: error.hint() }
    }
}
