//! The backends that the small program drives itself.

use agentkernel_core::Backend;

/// The preferred ones first.
pub static BACKENDS: &[&dyn Backend] = &[
    #[cfg(target_os = "linux")]
    &agentkernel_native::NATIVE,
];
