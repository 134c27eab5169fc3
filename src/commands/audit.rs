//! `agentkernel audit [FLAGS] | verify`

use std::mem;

use agentkernel_engine::EngineError;
use agentkernel_store::audit::{self, AuditError, Filter, Logged, Verdict};
use agentkernel_wire::{VerdictDetail, VerdictReport};

use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::home;
use crate::output::{self, Stream};
use crate::verbs::Verb;

use super::unexpected;

/// Shows the audit log or checks it.
pub(super) fn run(mut low: LowArgs) -> Result<u8, CommandError> {
    match low.words.as_slice() {
        [] => {}
        [word] if word == "verify" => return verify(&low),
        [word, ..] => return Err(unexpected(Verb::Audit, word)),
    }
    let filter =
        Filter { since: low.since, kinds: mem::take(&mut low.kinds), sandbox: low.sandbox.take() };
    if low.follow {
        return follow(filter, low.json, |_| true);
    }
    let entries = audit::read(&home::dirs()?.audit(), filter).map_err(EngineError::from)?;
    show(entries, low.json, |_| true)
}

/// Shows entries and goes on with those to come, until it is interrupted.
pub(super) fn follow(
    filter: Filter,
    json: bool,
    wanted: impl Fn(&Logged) -> bool,
) -> Result<u8, CommandError> {
    let entries = audit::follow(&home::dirs()?.audit(), filter).map_err(EngineError::from)?;
    show(entries, json, wanted)
}

/// Goes on after a line that is no entry, which the exit status tells.
fn show(
    entries: impl Iterator<Item = Result<Logged, AuditError>>,
    json: bool,
    wanted: impl Fn(&Logged) -> bool,
) -> Result<u8, CommandError> {
    let mut status = 0;
    for entry in entries {
        match entry {
            Ok(entry) if !wanted(&entry) => {}
            Ok(entry) => {
                let line = if json { entry.line } else { line(&entry) };
                if !output::bytes(Stream::Output, format!("{line}\n").as_bytes())? {
                    break;
                }
            }
            Err(err) => {
                output::error(EngineError::from(err).into(), json);
                status = FAILED;
            }
        }
    }
    Ok(status)
}

/// An entry for people.
fn line(entry: &Logged) -> String {
    let sandbox = entry.sandbox.as_ref().map_or("-", |sandbox| sandbox.name.as_str());
    let who = &entry.who;
    let mut line = format!(
        "{}  {:8}  {sandbox:20}  uid {} pid {} {}",
        entry.time, entry.kind, who.uid, who.pid, who.client
    );
    if let Some(ended) = &entry.ended {
        line += &format!("  {ended}");
    }
    if !entry.detail.is_null() {
        line += &format!("  {}", entry.detail);
    }
    output::shown(&line)
}

/// Returns 0 if the log is as it was written, and 1 if it is not.
fn verify(low: &LowArgs) -> Result<u8, CommandError> {
    let path = home::dirs()?.audit();
    let verdict = audit::verify(&path).map_err(EngineError::from)?;
    let broken = matches!(verdict, Verdict::Broken { .. });
    if low.json {
        output::line(&VerdictReport::from(detail(verdict)).to_json())?;
        return Ok(u8::from(broken));
    }
    match verdict {
        Verdict::Broken { line, why } => {
            let broken = CommandError::new(
                format!("the audit log is broken at line {line}: {why}"),
                format!("look at it: sed -n {line}p {}", path.display()),
            );
            Err(CommandError { exit_code: 1, ..broken })
        }
        Verdict::Verified { entries, torn, unfinished, last } => {
            output::text(&describe(entries, torn, unfinished, &last))?;
            Ok(0)
        }
    }
}

fn detail(verdict: Verdict) -> VerdictDetail {
    match verdict {
        Verdict::Broken { line, why } => VerdictDetail::Broken { line, why },
        Verdict::Verified { entries, torn, unfinished, last } => {
            VerdictDetail::Verified { entries, torn, unfinished, last }
        }
    }
}

fn describe(entries: u64, torn: u64, unfinished: Option<u64>, last: &str) -> String {
    let mut text = format!("entries     {entries}, all as they were written\n");
    if torn > 0 {
        text += &format!("torn lines  {torn}, each explained by the entry after it\n");
    }
    if let Some(line) = unfinished {
        text += &format!("unfinished  line {line} is cut off, and nothing says why yet\n");
    }
    text + &format!("last hash   {last}\n")
}

#[cfg(test)]
mod tests {
    use agentkernel_store::audit::{Audit, Entry, Kind, Who};

    use super::*;

    #[test]
    fn an_entry_is_shown_in_one_harmless_line() {
        let path = std::env::temp_dir().join(format!("audit-line-{}", std::process::id()));
        let who = Who { uid: 7, pid: 8, client: "\x1b[2J\n".into() };
        Audit::at(path.clone()).append(&Entry::new(Kind::Daemon, &who)).unwrap();
        let entry = audit::read(&path, Filter::default()).unwrap().next().unwrap().unwrap();
        std::fs::remove_file(path).unwrap();
        let line = line(&entry);
        assert!(
            line.ends_with(r"  daemon    -                     uid 7 pid 8 \u{1b}[2J\n"),
            "{line}"
        );
    }

    #[test]
    fn a_verdict_says_what_is_unusual() {
        let text = describe(3, 1, Some(5), "00");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(describe(3, 0, None, "00").lines().count(), 2);
    }
}
