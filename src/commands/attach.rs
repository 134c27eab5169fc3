//! `agentkernel attach NAME [NUMBER]`

use agentkernel_core::{Backend, Ended};
use agentkernel_engine::Engine;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::logs::Printer;
use super::{sandboxes, tell};

/// Follows a background command to its end, and returns its exit status.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (name, number) = sandboxes::name_and_number(Verb::Attach, low)?;
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    let mut printer = Printer::default();
    let attached = all.attach(name.as_str(), number, &mut |entry| printer.print(&entry));
    let Some(attached) = printer.finish(attached)? else { return Ok(0) };
    match &attached.ended {
        Ended::Lost(why) => tell::lost(why),
        ended if attached.was_over => {
            let (name, number) = (&attached.record.name, attached.number);
            let how = tell::ended(ended);
            output::note(&format!("agentkernel: number {number} of {name} is over: {how}"));
        }
        ended @ (Ended::TimedOut | Ended::OutOfMemory | Ended::Killed) => {
            output::note(&format!("agentkernel: {}", tell::ended(ended)));
        }
        Ended::Exited(_) | Ended::Signaled(_) => {}
    }
    Ok(attached.ended.exit_code())
}
