//! Who commands are in an image, as this process's user sees it.

use agentkernel_core::{
    BootError, Command, Identity, ImageFacts, Process, Spec, User, identity_in_image,
    process_in_image,
};
use agentkernel_sys::identity::effective;

/// [`identity_in_image`] for whoever calls.
pub fn identity(user: &User, image: &ImageFacts) -> Result<Identity, BootError> {
    identity_in_image(user, image, effective())
}

/// [`process_in_image`] for whoever calls.
pub fn process(spec: &Spec, command: &Command, image: &ImageFacts) -> Result<Process, BootError> {
    process_in_image(spec, command, image, effective())
}

/// Refuses a command without words where an image is known to a cluster's nodes alone: what such an image
/// starts by itself can't be told here, nor can what it would put before words.
pub fn refuse_unnamed(command: &Command) -> Result<(), BootError> {
    match command.argv.is_empty() {
        false => Ok(()),
        true => Err(BootError::Refused {
            why: "no command was given, and the image's own is known to the cluster's nodes alone"
                .into(),
            fix: "name it after the flags, its entrypoint first".into(),
        }),
    }
}
