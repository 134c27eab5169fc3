//! What the machine has, which is the most that a sandbox can be given.

use agentkernel_wire::Machine;

/// The facts that limits are held against. Asking takes about two microseconds.
#[cfg(target_os = "linux")]
pub(crate) fn facts() -> Machine {
    use agentkernel_sys::machine;

    Machine { processors: Some(machine::processors()), memory: machine::memory_bytes().ok() }
}

/// Elsewhere sandboxes run in a machine of their own, which knows what it has.
#[cfg(not(target_os = "linux"))]
pub(crate) fn facts() -> Machine {
    Machine::default()
}
