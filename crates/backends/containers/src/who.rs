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
