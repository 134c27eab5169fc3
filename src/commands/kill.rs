//! `agentkernel kill [-s SIGNAL] NAME [NUMBER]`

use agentkernel_core::Backend;
use agentkernel_engine::Engine;
use agentkernel_wire::Signal;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::sandboxes;

/// Sends a signal to a background command, or to everything in a sandbox.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (name, number) = sandboxes::name_and_number(Verb::Kill, low)?;
    let signal = low.signal.unwrap_or(Signal::KILL).get();
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    let record = match number {
        Some(number) => all.signal_background(name.as_str(), number, signal)?,
        None => all.signal_all(name.as_str(), signal)?,
    };
    output::line(record.name.as_str())?;
    Ok(0)
}
