//! Modules in sandboxes that live on, and in those that a pool had ready.

use std::process::Stdio;

use agentkernel_core::Capability;
use serde_json::Value;

use super::invoke::mistaken;
use super::{Shelf, module};
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Route, Running, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "module-lives",
        "a sandbox of a module runs it again and again, each time with arguments of its own",
        module_lives,
    )
    .needing(LIVE)
    .only(Route::Live, ABOUT_LIFE),
    module(
        "module-lives-with-its-files",
        "what a module writes is there for the next one in its sandbox, and in no other",
        module_lives_with_its_files,
    )
    .needing(&[Capability::ImageModule, Capability::Live, Capability::RootChanges])
    .only(Route::Live, ABOUT_LIFE),
    module(
        "module-lives-through-a-trap",
        "a module that traps or grows without end takes nothing from the others in its sandbox",
        module_lives_through_a_trap,
    )
    .needing(LIVE)
    .only(Route::Live, ABOUT_LIFE),
    module(
        "module-functions-live",
        "exec --invoke calls a function of a sandbox's module",
        module_functions_live,
    )
    .needing(LIVE)
    .only(Route::Live, ABOUT_LIFE),
    module(
        "module-pool-serves-any",
        "places of a pool serve any module, each time a place that nobody has used",
        module_pool_serves_any,
    )
    .needing(&[Capability::ImageModule, Capability::RootChanges])
    .only(Route::Pool, "it is about pools"),
];

const LIVE: &[Capability] = &[Capability::ImageModule, Capability::Live];
const ABOUT_LIFE: &str = "it is about sandboxes that live on";

/// A sandbox of a module, started.
fn alive(shelf: &Shelf<'_>, name: &str, module: &str) -> Verdict {
    let file = shelf.file(module)?;
    let file = file.to_string_lossy();
    let create = ["create", "-B", &shelf.subject.backend, "--image", &file, name];
    shelf.agentkernel(&create)?.exits(0)?.prints(format!("{name}\n"))?.complains("")?;
    shelf.agentkernel(&["start", name])?.exits(0)?.complains("")?;
    Ok(())
}

fn exec(shelf: &Shelf<'_>, words: &[&str]) -> Result<Captured, NotPassed> {
    shelf.agentkernel(&[&["exec"], words].concat())
}

fn module_lives(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    alive(&shelf, "box", "args")?;
    for (words, expected) in [
        (&["box"][..], "args.wat\0"),
        (&["box", "--"], "args.wat\0"),
        (&["box", "--", "a", "--", "b"], "args.wat\0a\0--\0b\0"),
        (&["box", "a", "b"], "args.wat\0a\0b\0"),
    ] {
        exec(&shelf, words)?.exits(0)?.prints(expected)?.complains("")?;
    }
    // After a stop as well.
    shelf.agentkernel(&["stop", "box"])?.exits(0)?;
    shelf.agentkernel(&["start", "box"])?.exits(0)?.complains("")?;
    exec(&shelf, &["box", "--", "again"])?.exits(0)?.prints("args.wat\0again\0")?;
    Ok(())
}

fn module_lives_with_its_files(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    alive(&shelf, "one", "files")?;
    alive(&shelf, "two", "files")?;
    exec(&shelf, &["one", "write", "/tmp/mark", "kept"])?.exits(0)?.prints("")?.complains("")?;
    exec(&shelf, &["one", "read", "/tmp/mark"])?.exits(0)?.prints("kept")?;
    exec(&shelf, &["two", "read", "/tmp/mark"])?.exits(0)?.prints("errno 44\n")?;
    Ok(())
}

fn module_lives_through_a_trap(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    alive(&shelf, "box", "traps")?;
    exec(&shelf, &["box", "unreachable"])?.exits(134)?;
    exec(&shelf, &["box", "stack"])?.exits(139)?;
    exec(&shelf, &["box", "memory"])?.exits(139)?;
    exec(&shelf, &["box", "none"])?.exits(134)?;
    let listed = shelf.agentkernel(&["ps", "--json"])?;
    let listed: Value = serde_json::from_slice(&listed.exits(0)?.stdout).unwrap_or_default();
    ensure!(listed.to_string().contains("\"box\""), "the sandbox is gone: {listed}");
    alive(&shelf, "other", "tee")?;
    let mut command = subject.agentkernel(&shelf.scratch);
    command.args(["exec", "other"]).stdin(Stdio::piped());
    let mut waiting = Running::start(command)?;
    let held = waiting.take_stdin();
    exec(&shelf, &["box", "divide"])?.exits(136)?;
    exec(&shelf, &["other"])?.exits(0)?.prints("")?;
    drop(held);
    waiting.finish()?.exits(0)?.prints("")?.complains("")?;
    Ok(())
}

fn module_functions_live(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    // It has nothing to start with, which is no mistake as long as nobody wants that.
    alive(&shelf, "box", "math")?;
    exec(&shelf, &["--invoke", "add", "box", "2", "3"])?.exits(0)?.prints("5\n")?.complains("")?;
    exec(&shelf, &["--invoke=long", "box", "--", "5"])?.exits(0)?.prints("6\n")?;
    mistaken(&exec(&shelf, &["box"])?, &["_start"])
}

fn module_pool_serves_any(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let words = ["exists", "/tmp/mark", "write", "/tmp/mark", "left", "read", "/tmp/mark"];
    for _ in 0..4 {
        let (got, report) = shelf.reported(&NO_FLAGS, "files", &words)?;
        got.exits(0)?.prints("errno 44\nleft")?.complains("")?;
        let route = &report["route"]["kind"];
        ensure!(route == "pool", "it came by the route {route}: {got}");
        let (got, report) = shelf.reported(&NO_FLAGS, "hello", &NO_FLAGS)?;
        got.exits(0)?.prints("hello\n")?.complains("")?;
        let route = &report["route"]["kind"];
        ensure!(route == "pool", "another module came by the route {route}: {got}");
    }
    Ok(())
}
