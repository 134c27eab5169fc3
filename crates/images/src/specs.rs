//! The images that specs name, for backends whose images are in this store.

use agentkernel_core::{self as core, BootError, Provision, Pull, Spec};

use crate::{Image, Images, ImagesError, Porter, PorterError};

/// The image that a spec names, held; none if its root is another one.
pub fn open(spec: &Spec) -> Result<Option<Image>, BootError> {
    let core::Image::Reference(name) = &spec.image else { return Ok(None) };
    let found = Images::of_caller().and_then(|images| images.open(name))?;
    found.map(Some).ok_or_else(|| missing(name))
}

/// Names a spec's image by its content, if it is there.
pub fn pin(name: &str) -> Result<Option<String>, BootError> {
    let Some(manifest) = Images::of_caller()?.resolve(name)? else { return Ok(None) };
    let tagged = name.split_once('@').map_or(name, |(tagged, _)| tagged);
    Ok(Some(format!("{tagged}@{manifest}")))
}

/// See [`Backend::provide`](core::Backend::provide).
pub fn provide(
    name: &str,
    provision: &Provision,
    porter: Option<&dyn Porter>,
) -> Result<(), BootError> {
    let images = Images::of_caller()?;
    let brought = match (porter, &provision.build) {
        (Some(porter), Some(folder)) => porter.build(&images, folder, name, provision.pull),
        _ if provision.pull != Pull::Always && pin(name)?.is_some() => return Ok(()),
        (Some(porter), None) if provision.pull != Pull::Never => {
            porter.pull(&images, name, None, &provision.registries)
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
