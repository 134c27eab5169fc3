//! `agentkernel prune [-f]`

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, Leftover};
use agentkernel_store::Record;

use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{sandboxes, unexpected};

/// Removes what is of no more use, after asking, and prints what that was.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    if let Some(word) = low.words.first() {
        return Err(unexpected(Verb::Prune, word));
    }
    let engine = Engine::new(backends);
    for path in engine.sweep() {
        output::line(&path.display().to_string())?;
    }
    let Some(all) = sandboxes::open_existing(&engine)? else { return Ok(0) };
    let (records, leftovers) = (all.prunable()?, all.leftovers()?);
    let is_nothing = records.is_empty() && leftovers.is_empty();
    if is_nothing || !low.force && !is_confirmed(&records, &leftovers)? {
        return Ok(0);
    }
    let pruned = all.prune(&records, &leftovers);
    for record in &pruned.sandboxes {
        output::line(record.name.as_str())?;
    }
    for leftover in &pruned.leftovers {
        output::line(&leftover.path.display().to_string())?;
    }
    let status = if pruned.errors.is_empty() { 0 } else { FAILED };
    for error in pruned.errors {
        output::error(error.into(), false);
    }
    Ok(status)
}

fn is_confirmed(records: &[Record], leftovers: &[Leftover]) -> Result<bool, CommandError> {
    output::ask(&question(records, leftovers)).ok_or_else(|| {
        CommandError::new("nobody can be asked whether to remove them", "pass -f to remove them")
    })
}

fn question(records: &[Record], leftovers: &[Leftover]) -> String {
    let names = records.iter().map(|record| format!("  {} ({})\n", record.name, record.state));
    let paths = leftovers.iter().map(|leftover| format!("  {}\n", leftover.path.display()));
    let all: String = names.chain(paths).collect();
    format!("This removes for ever:\n{all}Go on?")
}
