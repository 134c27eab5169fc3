//! Images: looked up, and fetched.

use agentkernel_core::{BootError, Image, ImageFacts, News, Progress, Provision, Pull, Spec, tell};

use crate::tool::{self, ToolError};
use crate::words;

/// The name of a spec's image.
pub fn reference(spec: &Spec) -> Result<&str, BootError> {
    match &spec.image {
        Image::Reference(reference) if !reference.starts_with('-') => Ok(reference),
        _ => Err(BootError::Refused {
            why: "Apple's containers start images by their names only".into(),
            fix: "name one with --image, such as debian:stable-slim".into(),
        }),
    }
}

/// Sees to it that a spec's image is there, as asked.
pub fn provide(spec: &Spec, provision: &Provision) -> Result<(), BootError> {
    let reference = reference(spec)?;
    match (provision.pull, inspect(reference)?) {
        (Pull::Missing | Pull::Never, Some(_)) => Ok(()),
        (Pull::Missing | Pull::Always, had) => pull(reference, had.as_ref()),
        (Pull::Never, None) => Err(BootError::Refused {
            why: format!("the image {reference} is not here, and is never to be pulled"),
            fix: format!(
                "pull it once with container image pull {reference}, or allow --pull missing"
            ),
        }),
    }
}

/// What an image says of commands; it is fetched if it is not here.
pub fn facts(reference: &str) -> Result<ImageFacts, BootError> {
    let image = match inspect(reference)? {
        Some(image) => image,
        None => {
            pull(reference, None)?;
            inspect(reference)?.ok_or_else(|| no_image(reference, "it is not here after that"))?
        }
    };
    Ok(image.facts(words::architecture()))
}

fn inspect(reference: &str) -> Result<Option<words::Image>, BootError> {
    match tool::ask_for::<Vec<words::Image>>(&["image", "inspect", reference]) {
        Ok(all) => Ok(all.into_iter().next()),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error.into_boot_error(&format!("can't look up the image {reference}"))),
    }
}

/// Fetches it, whether there is one of that name or not.
fn pull(reference: &str, had: Option<&words::Image>) -> Result<(), BootError> {
    tell(News::Pulling { image: reference, progress: Progress::default() });
    let words = ["image", "pull", "--progress", "none", reference];
    let pulled = tool::ask(&words, tool::FETCH).map_err(|error| match error {
        ToolError::Refused { words, .. } if !words.contains("XPC connection error") => {
            no_image(reference, &words)
        }
        error => error.into_boot_error(&format!("can't pull the image {reference}")),
    });
    let after = pulled.and_then(|_| inspect(reference));
    let had = had.map(|image| &image.id);
    let newer = after.as_ref().ok().map(|after| after.as_ref().map(|image| &image.id) != had);
    tell(News::Pulled { image: reference, newer });
    after.map(drop)
}

fn no_image(reference: &str, why: &str) -> BootError {
    BootError::Refused {
        why: format!("the image {reference} can't be pulled: {why}"),
        fix: "check the name, whether its registry can be reached, and whether you have to log in"
            .into(),
    }
}
