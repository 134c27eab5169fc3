//! Layers and projects as somebody would make them who wants more than their own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, RenameFlags, mkdirat, mknodat, open, openat, renameat_with,
};

use crate::scratch::{Scratch, mark, read, whiteout, write};

const NONE: [&str; 0] = [];

#[test]
fn a_link_on_the_host_leads_no_write_out() {
    let mut scratch = Scratch::new();
    write(scratch.outside("victim"), "theirs");
    symlink(scratch.outside(""), scratch.lower("d")).unwrap();
    symlink(scratch.outside("victim"), scratch.lower("file")).unwrap();
    scratch.begin();
    write(scratch.upper("d/victim"), "sandbox");
    write(scratch.upper("d/new"), "sandbox");
    write(scratch.upper("file"), "sandbox");
    // In the sandbox they were replaced, so they are here.
    assert_eq!(scratch.changes(), ["C d", "A d/new", "A d/victim", "C file"]);
    assert_eq!(scratch.apply().refused, NONE);
    assert!(fs::symlink_metadata(scratch.lower("d")).unwrap().is_dir());
    assert_eq!(read(scratch.outside("victim")), "theirs");
    assert!(!scratch.outside("new").exists());
    assert_eq!(read(scratch.lower("file")), "sandbox");
}

#[test]
fn a_folder_that_became_a_link_meanwhile_is_refused() {
    let mut scratch = Scratch::new();
    write(scratch.lower("d/victim"), "old");
    write(scratch.outside("victim"), "theirs");
    scratch.begin();
    write(scratch.upper("d/victim"), "sandbox");
    fs::remove_dir_all(scratch.lower("d")).unwrap();
    symlink(scratch.outside(""), scratch.lower("d")).unwrap();
    assert_eq!(scratch.apply().refused, ["d: \"/work/d\" was changed on the host meanwhile"]);
    assert_eq!(scratch.force().applied, ["d", "d/victim"]);
    assert_eq!(read(scratch.outside("victim")), "theirs");
}

#[test]
fn swapping_folders_for_links_leads_no_write_out() {
    let mut scratch = Scratch::new();
    write(scratch.outside("victim"), "theirs");
    fs::create_dir_all(scratch.lower("d")).unwrap();
    symlink(scratch.outside(""), scratch.lower("e")).unwrap();
    scratch.begin();
    let (done, lower) = (AtomicBool::new(false), scratch.lower(""));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let lower = open(&lower, OFlags::DIRECTORY, Mode::empty()).unwrap();
            while !done.load(Ordering::Relaxed) {
                let _ = renameat_with(&lower, "d", &lower, "e", RenameFlags::EXCHANGE);
            }
        });
        for round in 0..200 {
            for name in ["d/victim", "d/new", "d/deeper/new", "e/victim", "e/new"] {
                write(scratch.upper(name), format!("{round}"));
            }
            // It may well fail.
            let only: &[&str] = if round % 2 == 0 { &[] } else { &["d"] };
            let _ = scratch.try_apply(only, true);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(read(scratch.outside("victim")), "theirs");
    assert_eq!(fs::read_dir(scratch.outside("")).unwrap().count(), 1);
}

#[test]
fn a_link_in_the_layer_is_never_followed() {
    let mut scratch = Scratch::new();
    write(scratch.outside("secret"), "theirs");
    write(scratch.lower("d/secret"), "old");
    scratch.begin();
    symlink(scratch.outside(""), scratch.upper("d")).unwrap();
    symlink(scratch.outside("secret"), scratch.upper("f")).unwrap();
    assert_eq!(scratch.changes(), ["C d", "A f"]);
    let outcome = scratch.apply();
    assert_eq!((outcome.applied.len(), outcome.refused.len()), (0, 2));
    assert_eq!(read(scratch.lower("d/secret")), "old");
    let forced = scratch.force();
    assert_eq!((forced.applied.len(), forced.refused.len()), (0, 2));
    assert_eq!(read(scratch.outside("secret")), "theirs");
}

#[test]
fn a_whole_layer_or_project_that_is_a_link_is_refused() {
    let mut scratch = Scratch::new();
    symlink(scratch.outside(""), scratch.upper("link")).unwrap();
    scratch.layer.upper = scratch.upper("link");
    assert!(scratch.try_changes().is_err());
}

#[test]
fn fifos_and_sockets_neither_block_nor_pass() {
    let mut scratch = Scratch::new();
    write(scratch.lower("file"), "old");
    scratch.begin();
    for name in ["fifo", "file"] {
        mknodat(CWD, scratch.upper(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
    }
    drop(std::os::unix::net::UnixListener::bind(scratch.upper("socket")).unwrap());
    assert_eq!(scratch.changes(), ["A fifo", "C file", "A socket"]);
    let refused = [
        "fifo: a fifo can't be carried over",
        "file: a fifo can't be carried over",
        "socket: a socket can't be carried over",
    ];
    assert_eq!(scratch.apply().refused, refused);
    assert_eq!(scratch.force().refused, refused);
    assert_eq!(read(scratch.lower("file")), "old");
}

#[test]
fn a_fifo_of_the_host_does_not_block() {
    let mut scratch = Scratch::new();
    mknodat(CWD, scratch.lower("file"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    scratch.begin();
    write(scratch.upper("file"), "new");
    assert_eq!(scratch.apply().applied, ["file"]);
    assert_eq!(read(scratch.lower("file")), "new");
}

#[test]
fn any_name_is_carried_over_and_remembered() {
    let mut scratch = Scratch::new();
    scratch.begin();
    let long = "n".repeat(255);
    let names: [&[u8]; 6] =
        [b"line\nbreak", b"\xff\xfe", b"back\\slash", b"-rf", b"\x1b[31m", long.as_bytes()];
    for text in ["one", "two"] {
        for name in names {
            write(scratch.upper(OsStr::from_bytes(name)), text);
        }
        let outcome = scratch.apply();
        assert_eq!((outcome.applied.len(), outcome.refused), (6, vec![]));
    }
    for name in names {
        assert_eq!(read(scratch.lower(OsStr::from_bytes(name))), "two");
    }
}

#[test]
fn a_tree_deeper_than_any_path_is_carried_over_and_deleted() {
    const DEPTH: usize = 1500;
    let mut scratch = Scratch::new();
    scratch.begin();
    let dig = |top: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = open(top, flags, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&at, "as-deep-as-it-gets", Mode::RWXU).unwrap();
            at = openat(&at, "as-deep-as-it-gets", flags, Mode::empty()).unwrap();
        }
    };
    dig(&scratch.upper(""));
    assert_eq!(scratch.changes().len(), DEPTH);
    assert_eq!(scratch.apply().applied.len(), DEPTH);
    assert_eq!(scratch.changes(), NONE);
    assert!(
        std::process::Command::new("rm")
            .arg("-rf")
            .arg(scratch.upper("as-deep-as-it-gets"))
            .status()
            .unwrap()
            .success()
    );
    if whiteout(scratch.upper("as-deep-as-it-gets")) {
        assert_eq!(scratch.apply().applied, ["as-deep-as-it-gets"]);
        assert!(!scratch.lower("as-deep-as-it-gets").exists());
    }
}

#[test]
fn an_opaque_folder_deletes_nothing_that_is_new_on_the_host() {
    let mut scratch = Scratch::new();
    write(scratch.lower("d/old"), "");
    scratch.begin();
    fs::create_dir(scratch.upper("d")).unwrap();
    if !mark(scratch.upper("d"), "user.overlay.opaque", b"y") {
        return;
    }
    write(scratch.lower("d/new"), "");
    let outcome = scratch.apply();
    assert_eq!(outcome.applied, ["d/old"]);
    assert_eq!(outcome.refused, ["d/new: \"/work/d/new\" was changed on the host meanwhile"]);
}

#[test]
fn a_renamed_file_is_not_taken_for_a_removed_one() {
    let mut scratch = Scratch::new();
    write(scratch.lower("d/old"), "old");
    scratch.begin();
    if !scratch.run("mv d/old d/new; mkdir e; mv d/new e/new; echo > d/x; mv e/new d/y") {
        return;
    }
    let outcome = scratch.apply();
    assert_eq!(outcome.refused, NONE);
    assert_eq!(read(scratch.lower("d/y")), "old");
    assert!(!scratch.lower("d/old").exists());
}
