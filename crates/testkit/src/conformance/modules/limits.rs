//! Limits that a module is under.

use std::time::Duration;

use agentkernel_core::{Capability, LimitKind};

use super::{Shelf, module};
use crate::conformance::bad_input::refused;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "module-memory-limit",
        "a module that grows without end is refused more than its limit, and lives on",
        module_memory_limit,
    )
    .needing(NEEDS),
    module(
        "module-out-of-memory",
        "a module that uses more memory than there is makes exit status 137, and says so",
        module_out_of_memory,
    )
    .needing(NEEDS),
    module(
        "module-memory-limit-is-its-own",
        "a module beside one that grows without end does not notice",
        module_memory_limit_is_its_own,
    )
    .needing(NEEDS),
    module(
        "module-memory-limit-of-a-profile",
        "a module that nobody gave a limit has that of its profile",
        module_memory_limit_of_a_profile,
    ),
];

const NEEDS: &[Capability] = &[Capability::ImageModule, Capability::LimitMemory];

/// The size of a page of a module's memory.
const PAGE: u64 = 64 << 10;

/// Runs `grow` under the flags' limit. Where it can't be had, the run must be refused.
fn grown(shelf: &Shelf<'_>, flags: &[&str], words: &[&str]) -> Result<Captured, NotPassed> {
    let got = shelf.start(flags, "grow", words)?.within(Duration::from_secs(60)).finish()?;
    if flags.contains(&"--memory") && shelf.subject.exact_limit(LimitKind::Memory).is_err() {
        refused(&got, &["memory"])?;
        skip!("{}", got.errors().trim_end().replace('\n', "; "));
    }
    Ok(got)
}

/// How much a module got: no more than what is allowed, and not much less.
fn got_within(got: &Captured, allowed: u64) -> Verdict {
    got.exits(0)?.complains("")?;
    let pages: u64 = got.text().trim_end().parse().unwrap_or_default();
    let bytes = pages * PAGE;
    ensure!(bytes <= allowed, "{bytes} bytes were had, {allowed} allowed: {got}");
    ensure!(bytes >= allowed / 4, "only {bytes} bytes could be had of {allowed}: {got}");
    Ok(())
}

fn module_memory_limit(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    got_within(&grown(&shelf, &["--memory", "64m"], &[])?, 64 << 20)?;
    got_within(&grown(&shelf, &["--memory", "200m"], &[])?, 200 << 20)?;
    // Nothing that a machine's memory is made of divides this.
    got_within(&grown(&shelf, &["--memory", "99999999"], &[])?, 99_999_999)
}

fn module_out_of_memory(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for word in ["trap", "use"] {
        let got = grown(&shelf, &["--memory", "64m"], &[word])?;
        // It may be refused before the machine's own limit is reached, and live on without.
        match (word, got.status.code()) {
            ("use", Some(0)) => got_within(&got, 64 << 20)?,
            _ => _ = got.exits(137)?.prints("")?.mentions("out of memory")?,
        }
    }
    // Nothing of this in what traps with enough of it.
    let other = shelf.run(&["--memory", "64m"], "traps", &["unreachable"])?;
    other.exits(134)?;
    ensure!(!other.errors().contains("out of memory"), "memory was blamed for a trap: {other}");
    Ok(())
}

fn module_memory_limit_is_its_own(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    grown(&shelf, &["--memory", "64m"], &[])?.exits(0)?;
    let mut beside = shelf.start(&["--memory", "64m"], "loop", &NO_FLAGS)?;
    beside.line()?;
    let got = grown(&shelf, &["--memory", "64m"], &["trap"])?;
    got.exits(137)?;
    shelf.run(&["--memory", "64m"], "hello", &NO_FLAGS)?.exits(0)?.prints("hello\n")?;
    let ended = beside.ends_within(Duration::ZERO)?;
    ensure!(!ended, "a module ended with another one's memory: {beside}");
    beside.signal(rustix::process::Signal::TERM)?;
    beside.finish()?.exits(143)?.complains("")?;
    Ok(())
}

fn module_memory_limit_of_a_profile(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    got_within(&grown(&shelf, &["--profile", "restrictive"], &[])?, 256 << 20)
}
