//! Names that only Linux has stay in the rooms that are for Linux only, whose `lib.rs` says so in its
//! first lines, and where the table below says. So it stays known how far the rest is from another
//! system; [docs/apple.md](../docs/apple.md) says what it would take.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

/// Parts of a line of code by which it is for Linux.
const LINUX: [&str; 12] = [
    "std::os::linux",
    "agentkernel_sys",
    "libc::",
    "inotify",
    "epoll",
    "eventfd",
    "signalfd",
    "pidfd",
    "openat2",
    "OFlags::PATH",
    "\"/proc/",
    "\"/sys/",
];

/// Where there are some all the same, and why.
const KNOWN: &[(&str, &str)] = &[
    ("src/commands/daemon.rs", "waits for the daemon's process"),
    ("src/machine.rs", "behind a cfg"),
    ("src/main.rs", "behind a cfg"),
    ("crates/bench/src", "measures processes, and describes the machine, by /proc"),
    ("crates/engine/src", "waits for links, streams and processes"),
    ("crates/pool/src/watch.rs", "waits for many spares"),
    ("crates/store/src/dirs.rs", "looks at a folder without opening it"),
    ("crates/store/src/audit/follow.rs", "waits for a file to grow"),
    ("crates/store/src/process.rs", "knows a process again"),
];

/// The lines for Linux of a file's code. Comments and a file's own tests are none.
fn lines_for_linux(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.filter(|line| LINUX.iter().any(|name| line.contains(name))).collect()
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => files_under(&path),
        false => vec![path],
    });
    files.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

/// The source folders of rooms that are not for Linux only.
fn portable_rooms(root: &Path) -> Vec<PathBuf> {
    let rooms =
        ["crates", "crates/backends"].map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let rooms = rooms.into_iter().flatten().map(|entry| entry.unwrap().path().join("src"));
    let is_portable = |room: &PathBuf| {
        let top = fs::read_to_string(room.join("lib.rs"));
        top.is_ok_and(|top| !top.contains("#![cfg(target_os = \"linux\")]"))
    };
    rooms.filter(is_portable).chain([root.join("src")]).collect()
}

#[test]
fn what_only_linux_has_is_where_it_is_known_to_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut met = vec![false; KNOWN.len()];
    let mut strangers = Vec::new();
    for path in portable_rooms(root).iter().flat_map(|room| files_under(room)) {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        if name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let Some(line) = lines_for_linux(&text).first().map(ToString::to_string) else { continue };
        match KNOWN.iter().position(|(known, _)| name.starts_with(known)) {
            Some(number) => met[number] = true,
            None => strangers.push(format!("{name}: {line}")),
        }
    }
    assert!(
        strangers.is_empty(),
        "only Linux has this: put it into crates/sys or a backend, or say why here:\n{}",
        strangers.join("\n")
    );
    let gone: Vec<_> =
        KNOWN.iter().zip(met).filter(|(_, met)| !met).map(|(known, _)| known).collect();
    assert!(gone.is_empty(), "these have nothing of Linux any more: {gone:?}");
}

#[test]
fn comments_and_tests_are_not_taken_for_code() {
    let text = "/// Of \"/proc/self\".\nuse a::inotify;\n#[cfg(test)]\nuse libc::x;\n";
    assert_eq!(lines_for_linux(text), ["use a::inotify;"]);
}
