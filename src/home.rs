//! Where the caller's sandboxes and all that belongs to them lie.

use agentkernel_store::Dirs;

use crate::error::CommandError;

/// By what the caller has come, in the audit log.
pub(crate) const CLIENT: &str = "agentkernel";

/// The caller's folders.
pub(crate) fn dirs() -> Result<Dirs, CommandError> {
    Dirs::of_caller().map_err(|error| CommandError::new(error.to_string(), error.hint()))
}
