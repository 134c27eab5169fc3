//! What is written down of all that is done.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{Home, life, told};
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    life(
        "audit-tells-everything",
        "all that is done to sandboxes is in the audit log, in order and with who did it",
        audit_tells_everything,
    ),
    told(
        "audit-tells-of-files",
        "what is carried in and out, applied, snapshotted and forked is in the audit log",
        audit_tells_of_files,
    ),
    life(
        "audit-tells-of-signals-and-refusals",
        "signals that were sent and what was refused are in the audit log, without arguments",
        audit_tells_of_signals_and_refusals,
    ),
    life(
        "audit-that-cannot-be-written",
        "a command that has run has run, though the audit log can't be written",
        audit_that_cannot_be_written,
    ),
    life(
        "audit-without-secrets",
        "the values of variables are neither in the audit log nor in any list",
        audit_without_secrets,
    ),
    life(
        "audit-shows-tampering",
        "a line of the audit log that was changed, removed or added is found by verify",
        audit_shows_tampering,
    ),
    life(
        "audit-by-many",
        "the audit log stays whole when many processes write to it at once",
        audit_by_many,
    ),
    life(
        "events-follow",
        "events gives each change of a sandbox as it happens, as a line of JSON",
        events_follow,
    ),
];

impl Home<'_> {
    /// The entries that `audit --json` prints with these flags, one a line.
    fn entries(&self, flags: &[&str]) -> Result<Vec<Value>, NotPassed> {
        let text = self.does(&[&["audit", "--json"], flags].concat())?;
        let read = |line| {
            serde_json::from_str(line)
                .map_err(|why| NotPassed::Failed(format!("no JSON ({why}): {line}")))
        };
        text.lines().map(read).collect()
    }
}

fn kinds(entries: &[Value]) -> Vec<&str> {
    entries.iter().filter_map(|entry| entry["kind"].as_str()).collect()
}

fn audit_tells_everything(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.created(&NO_FLAGS)?;
    home.does(&["start", &name])?;
    home.shell(&name, "exit 3")?.exits(3)?;
    for verb in ["pause", "unpause"] {
        home.does(&[verb, &name])?;
    }
    home.does(&["rename", &name, "renamed"])?;
    home.does(&["stop", "renamed"])?;
    home.refuses(&["exec", "renamed", "--", "true"], &[])?;
    home.does(&["rm", "renamed"])?;
    let entries = home.entries(&[])?;
    let found = kinds(&entries);
    let expected = [
        "create", "start", "command", "ended", "pause", "unpause", "rename", "stop", "refusal",
        "remove",
    ];
    let mut rest = found.iter();
    let missing = expected.iter().find(|kind| !rest.any(|found| found == *kind));
    ensure!(missing.is_none(), "no {missing:?} where it belongs: {found:?}");
    for entry in &entries {
        let uid = &entry["who"]["uid"];
        ensure!(*uid == subject.caller.uid(), "expected the caller to have done it: {entry}");
    }
    let command = entries.iter().find(|entry| entry["kind"] == "command");
    let told = &command.unwrap_or(&Value::Null)["detail"];
    let expected = serde_json::json!({ "program": "sh", "arguments": 2 });
    // An argument may be a secret.
    ensure!(*told == expected, "expected {expected} of the command, not {told}");
    let of_a_kind = home.entries(&["--kind", "pause"])?;
    ensure!(kinds(&of_a_kind) == ["pause"], "--kind pause gives {of_a_kind:?}");
    let other = home.created(&NO_FLAGS)?;
    let of_one = home.entries(&["--sandbox", &other])?;
    ensure!(kinds(&of_one) == ["create"], "--sandbox {other} gives {of_one:?}");
    home.run(&["audit", "verify"])?.exits(0)?.complains("")?;
    home.run(&["audit"])?.exits(0)?.complains("")?;
    Ok(())
}

fn audit_tells_of_files(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (_, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    home.shell(&name, "echo new > changed")?.exits(0)?;
    home.scratch.file("work/file", "of-the-file\n")?;
    let inside = format!("{name}:/home/agent/file");
    home.does(&["cp", "file", &inside])?;
    home.does(&["cp", &inside, "back"])?;
    home.run(&["apply", &name])?.exits(0)?;
    home.does(&["snapshot", "create", &name, "moment"])?;
    home.does(&["fork", &name])?;
    home.does(&["create", "--from", "moment", "--ttl", "1ms", "brief"])?;
    ensure!(home.listed_as("brief")?.is_null(), "it outlives its time");
    let entries = home.entries(&[])?;
    let found = kinds(&entries);
    let expected = ["file", "apply", "snapshot", "fork", "expired"];
    let missing: Vec<_> = expected.iter().filter(|kind| !found.contains(kind)).collect();
    ensure!(missing.is_empty(), "no {missing:?} in {found:?}");
    ensure!(found.iter().filter(|kind| **kind == "file").count() == 2, "two copies: {found:?}");
    let log = fs::read_to_string(home.state().join("audit.jsonl"))?;
    ensure!(!log.contains("of-the-file"), "what is in a file is told: {log}");
    home.run(&["audit", "verify"])?.exits(0).map(drop)
}

fn audit_tells_of_signals_and_refusals(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    home.background(&name, "sleep 1000")?;
    home.does(&["kill", "-s", "TERM", &name, "1"])?;
    home.does(&["kill", &name])?;
    home.refuses(&["create", &name], &[])?;
    home.does(&["stop", &name])?;
    home.refuses(&["exec", &name, "--", "tool", "hush"], &[])?;
    home.refuses(&["exec", "-d", "-e", "A=hush", &name, "--", "tool", "hush"], &[])?;
    home.refuses(&["exec", "nobody", "--", "tool", "hush"], &[])?;
    let signals = home.entries(&["--kind", "signal"])?;
    let told: Vec<_> = signals.iter().map(|entry| &entry["detail"]).collect();
    ensure!(told.len() == 2, "two signals were sent: {told:?}");
    ensure!(told[0]["signal"] == 15 && told[0]["background"] == 1, "the first is {}", told[0]);
    ensure!(told[1]["signal"] == 9, "the second is {}", told[1]);
    let refusals = home.entries(&["--kind", "refusal"])?;
    ensure!(refusals.len() == 4, "four were refused: {refusals:?}");
    let secret = refusals.iter().find(|entry| entry.to_string().contains("hush"));
    ensure!(secret.is_none(), "an argument is told in {secret:?}");
    Ok(())
}

fn audit_that_cannot_be_written(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let log = home.state().join("audit.jsonl");
    // Nobody can write to a directory, not even root.
    fs::rename(&log, home.state().join("away"))?;
    fs::create_dir(&log)?;
    let shell = ["--", "sh", "-c", "echo there; exit 3"];
    let ran = home.run(&[&["exec", "--verbose", &name], &shell[..]].concat())?;
    ran.exits(3)?.prints("there\n")?;
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    ensure!(told.contains("not in the audit log"), "nobody is told: {told}");
    fs::remove_dir(&log)?;
    fs::rename(home.state().join("away"), &log)?;
    home.does(&["audit", "verify"])?;
    Ok(())
}

fn audit_without_secrets(subject: &Subject) -> Verdict {
    const SECRETS: [&str; 4] = ["hush-flag", "hush-file", "hush-copied", "hush-exec"];
    let home = Home::new(subject)?;
    let file = home.scratch.file("work/variables", "FROM_FILE=hush-file\n")?;
    let file = file.display().to_string();
    let mut create = home.command(&["create", "-e", "FLAG=hush-flag", "--env-file", &file]);
    create.args(["-e", "COPIED", "secretive"]).env("COPIED", "hush-copied");
    Captured::of(create)?.exits(0)?;
    home.does(&["start", "secretive"])?;
    let show = ["exec", "-e", "EXEC=hush-exec", "secretive", "--", "sh", "-c"];
    let got = home.run(&[&show[..], &["echo $FLAG $FROM_FILE $COPIED $EXEC"]].concat())?;
    got.exits(0)?.prints("hush-flag hush-file hush-copied hush-exec\n")?;
    home.background("secretive", "true")?;
    home.refuses(&["pause", "-e", "A=hush-flag", "secretive"], &[])?;
    let log = fs::read_to_string(home.state().join("audit.jsonl"))?;
    ensure!(log.contains("FLAG") || log.contains("create"), "the log is empty: {log}");
    let shown = ["ps -a --json", "ps secretive", "audit --json", "audit"]
        .map(|words| home.does(&words.split(' ').collect::<Vec<_>>()));
    for text in shown.into_iter().chain([Ok(log)]) {
        let text = text?;
        let secret = SECRETS.iter().find(|secret| text.contains(**secret));
        ensure!(secret.is_none(), "{secret:?} is told in {text}");
    }
    Ok(())
}

fn audit_shows_tampering(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let names = [home.created(&NO_FLAGS)?, home.created(&NO_FLAGS)?, home.created(&NO_FLAGS)?];
    let file = home.state().join("audit.jsonl");
    let good = fs::read_to_string(&file)?;
    home.run(&["audit", "verify"])?.exits(0)?;
    let lines: Vec<&str> = good.lines().collect();
    ensure!(lines.len() >= 3, "expected three lines: {good}");
    let changed = good.replace(&names[1], "sandbox-x");
    let without = [&lines[..1], &lines[2..], &[""]].concat().join("\n");
    let twice = [&lines[..2], &lines[1..], &[""]].concat().join("\n");
    let noise = format!("{good}{{\"kind\":\"create\"}}\n");
    for bad in [changed, without, twice, noise] {
        fs::write(&file, bad)?;
        let got = home.run(&["audit", "verify"])?;
        ensure!(got.status.code() == Some(1), "a false log was found to be true: {got}");
        ensure!(!got.errors().contains("panicked"), "expected a message for people: {got}");
    }
    fs::write(&file, good)?;
    home.run(&["audit", "verify"])?.exits(0)?;
    Ok(())
}

fn audit_by_many(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let all: Result<Vec<_>, _> = (0..20)
        .map(|number| match number % 2 {
            0 => home.start(&["create", &format!("many-{number}")]),
            _ => home.start(&["exec", &name, "--", "true"]),
        })
        .collect();
    for running in all? {
        running.finish()?.exits(0)?;
    }
    home.run(&["audit", "verify"])?.exits(0)?;
    let entries = home.entries(&[])?;
    let found = kinds(&entries);
    let count = |kind| found.iter().filter(|found| **found == kind).count();
    let counts = [count("create"), count("command"), count("ended")];
    ensure!(counts == [11, 10, 10], "11 creations, 10 commands, 10 ends, not {counts:?}");
    let numbers: BTreeSet<_> = entries.iter().filter_map(|entry| entry["seq"].as_u64()).collect();
    ensure!(numbers.len() == entries.len(), "two entries have one number");
    Ok(())
}

fn events_follow(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let first = home.created(&NO_FLAGS)?;
    let mut events = home.start(&["events", "--json", "--since", "1h"])?;
    let mut next = |kind: &str, name: &str| {
        let line = events.line()?;
        let event: Value = serde_json::from_str(&line)
            .map_err(|why| NotPassed::Failed(format!("no JSON ({why}): {line}")))?;
        ensure!(event["kind"] == kind, "expected {kind}: {event}");
        ensure!(event["sandbox"]["name"] == name, "expected {name}: {event}");
        Ok(())
    };
    // What was before is given first, so that it is known to follow.
    next("create", &first)?;
    for (verb, kind) in [("start", "start"), ("stop", "stop"), ("rm", "remove")] {
        home.does(&[verb, &first])?;
        next(kind, &first)?;
    }
    Ok(())
}
