//! `agentkernel events [FLAGS]`

use std::time::SystemTime;

use agentkernel_store::audit::{Filter, Kind, Logged};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::audit;
use super::unexpected;

/// What belongs to a sandbox's life.
const LIFE: [Kind; 11] = [
    Kind::Create,
    Kind::Start,
    Kind::Stop,
    Kind::Remove,
    Kind::Pause,
    Kind::Unpause,
    Kind::Rename,
    Kind::Snapshot,
    Kind::Fork,
    Kind::Ended,
    Kind::Expired,
];

/// Tells what happens to sandboxes until it is interrupted.
pub(super) fn run(low: &LowArgs) -> Result<u8, CommandError> {
    if let Some(word) = low.words.first() {
        return Err(unexpected(Verb::Events, word));
    }
    let since = Some(low.since.unwrap_or_else(SystemTime::now));
    let filter = Filter { since, kinds: LIFE.into(), sandbox: None };
    audit::follow(filter, low.json, is_event)
}

/// Commands end, too, but that is no event of a sandbox.
fn is_event(entry: &Logged) -> bool {
    entry.kind != Kind::Ended || entry.ended.is_none() && entry.sandbox.is_some()
}
