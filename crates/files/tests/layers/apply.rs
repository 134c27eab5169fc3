use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use agentkernel_files::{FilesError, Reason};

use crate::scratch::{Scratch, mark, mode, read, set_mode, whiteout, write};

const NONE: [&str; 0] = [];

#[test]
fn the_host_gets_what_was_done_in_a_real_overlay() {
    let mut scratch = Scratch::new();
    for name in ["changed", "deleted", "moved", "d/gone", "gone/a/b", "new/a", "new/b", "x", "y/z"]
    {
        write(scratch.lower(name), name);
    }
    scratch.begin();
    let script = "
        echo more >> changed; rm deleted d/gone; mv moved d/renamed; rm -r gone
        rm -r new; mkdir new; echo a2 > new/a; mkdir -m 550 ro; echo f > ro/f; ln -s ../d ro/l
        rm x; mkdir x; echo inner > x/inner; rm -r y; echo file > y; chmod 700 d; ln changed hard";
    if !scratch.run(script) {
        return;
    }
    let outcome = scratch.apply();
    assert_eq!(outcome.refused, NONE);
    assert_eq!(scratch.changes(), NONE);
    assert_eq!(read(scratch.lower("changed")), "changedmore\n");
    assert_eq!(read(scratch.lower("d/renamed")), "moved");
    assert_eq!(read(scratch.lower("x/inner")), "inner\n");
    assert_eq!(read(scratch.lower("y")), "file\n");
    assert!(!scratch.lower("gone").exists() && !scratch.lower("new/b").exists());
    assert_eq!((mode(scratch.lower("ro")), mode(scratch.lower("d"))), (0o550, 0o700));
    // The sandbox goes on, and it all is carried over again.
    let script = "
        echo again >> changed; rm -r d; echo b3 > new/b; chmod 750 ro; mv y y2; rm -r x";
    assert!(scratch.run(script));
    let outcome = scratch.apply();
    assert_eq!(outcome.refused, NONE);
    assert_eq!(scratch.changes(), NONE);
    assert!(!scratch.lower("d").exists() && !scratch.lower("x").exists());
    assert_eq!(read(scratch.lower("y2")), "file\n");
    let outcome = scratch.apply();
    assert_eq!((outcome.applied, outcome.refused), (vec![], vec![]));
}

#[test]
fn what_the_host_changed_meanwhile_stays() {
    let mut scratch = Scratch::new();
    for name in ["both", "ours"] {
        write(scratch.lower(name), "old");
    }
    scratch.begin();
    write(scratch.upper("both"), "sandbox");
    write(scratch.upper("ours"), "sandbox");
    write(scratch.upper("new"), "sandbox");
    write(scratch.upper("same"), "same");
    write(scratch.lower("both"), "host");
    write(scratch.lower("new"), "host");
    write(scratch.lower("same"), "same");
    let outcome = scratch.apply();
    assert_eq!(outcome.applied, ["ours"]);
    assert_eq!(
        outcome.refused,
        [
            "both: \"/work/both\" was changed on the host meanwhile",
            "new: \"/work/new\" was changed on the host meanwhile"
        ]
    );
    assert_eq!(read(scratch.lower("both")), "host");
    assert_eq!(scratch.force().applied, ["both", "new"]);
    assert_eq!(read(scratch.lower("new")), "sandbox");
}

#[test]
fn a_change_that_keeps_the_old_time_is_seen() {
    let mut scratch = Scratch::new();
    write(scratch.lower("file"), "old");
    let before = fs::metadata(scratch.lower("file")).unwrap().modified().unwrap();
    scratch.begin();
    write(scratch.upper("file"), "sandbox");
    write(scratch.lower("file"), "hst");
    File::options().write(true).open(scratch.lower("file")).unwrap().set_modified(before).unwrap();
    assert_eq!(scratch.apply().refused.len(), 1);
}

#[test]
fn what_the_host_removed_meanwhile_stays_removed() {
    let mut scratch = Scratch::new();
    write(scratch.lower("file"), "old");
    write(scratch.lower("d/inner"), "old");
    scratch.begin();
    write(scratch.upper("file"), "sandbox");
    write(scratch.upper("d/inner"), "sandbox");
    write(scratch.upper("new"), "sandbox");
    for name in ["file", "d", "d/inner"] {
        if !mark(scratch.upper(name), "user.overlay.origin", b"") {
            return;
        }
    }
    fs::remove_file(scratch.lower("file")).unwrap();
    fs::remove_dir_all(scratch.lower("d")).unwrap();
    let outcome = scratch.apply();
    assert_eq!(outcome.applied, ["new"]);
    assert_eq!(
        outcome.refused,
        ["d: it was removed on the host meanwhile", "file: it was removed on the host meanwhile"]
    );
    fs::remove_file(scratch.lower("new")).unwrap();
    write(scratch.upper("new"), "sandbox again");
    assert_eq!(scratch.apply().refused.len(), 3);
    assert_eq!(scratch.force().applied, ["d", "d/inner", "file", "new"]);
}

#[test]
fn a_deletion_spares_what_the_host_changed() {
    let mut scratch = Scratch::new();
    for name in ["file", "tree/a/b", "tree/a/c", "other/a/b"] {
        write(scratch.lower(name), "old");
    }
    scratch.begin();
    for name in ["file", "tree", "other"] {
        if !whiteout(scratch.upper(name)) {
            return;
        }
    }
    write(scratch.lower("file"), "host");
    write(scratch.lower("tree/a/c"), "host");
    let outcome = scratch.apply();
    assert_eq!(outcome.applied, ["other"]);
    assert_eq!(
        outcome.refused,
        [
            "file: \"/work/file\" was changed on the host meanwhile",
            "tree: \"/work/tree/a/c\" was changed on the host meanwhile"
        ]
    );
    assert!(scratch.lower("tree/a/b").exists());
    assert_eq!(scratch.force().applied, ["file", "tree"]);
    assert!(!scratch.lower("tree").exists());
}

#[test]
fn our_own_writes_are_not_taken_for_the_hosts() {
    let mut scratch = Scratch::new();
    write(scratch.lower("file"), "old");
    scratch.begin();
    for text in ["one", "two", "three"] {
        write(scratch.upper("file"), text);
        write(scratch.upper("d/new"), text);
        assert_eq!(scratch.apply().refused, NONE);
        assert_eq!(read(scratch.lower("file")), text);
        assert_eq!(scratch.apply().applied, NONE);
        scratch.tick();
    }
    write(scratch.lower("file"), "host");
    write(scratch.upper("file"), "four");
    assert_eq!(scratch.apply().refused.len(), 1);
}

#[test]
fn only_what_is_named_is_carried_over() {
    let mut scratch = Scratch::new();
    scratch.begin();
    for name in ["a/b/c", "a/b/d", "a/e", "f", "g/h"] {
        write(scratch.upper(name), name);
    }
    let report = scratch.try_apply(&["a/b/c", "/work/g"], false).unwrap();
    let paths: Vec<_> = report.applied.iter().map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/work/a", "/work/a/b", "/work/a/b/c", "/work/g", "/work/g/h"]);
    for wrong in ["nothing", "/elsewhere", "a/b/c/d", "a/../f", "../f", "F"] {
        let error = scratch.try_apply(&["f", wrong], false).unwrap_err();
        assert!(matches!(error, FilesError::NothingAt(_)), "{wrong}: {error}");
    }
    assert!(!scratch.lower("f").exists());
    scratch.try_apply(&["/work"], false).unwrap();
    assert!(scratch.lower("f").exists());
}

#[test]
fn files_keep_time_and_holes_but_no_setuid_bit() {
    let mut scratch = Scratch::new();
    scratch.begin();
    let file = File::create(scratch.upper("sparse")).unwrap();
    file.write_all_at(b"end", 50 << 20).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1000, 5)).unwrap();
    write(scratch.upper("setuid"), "");
    set_mode(scratch.upper("setuid"), 0o6755);
    assert_eq!(scratch.apply().applied, ["setuid", "sparse"]);
    assert_eq!(mode(scratch.lower("setuid")), 0o755);
    let sparse = fs::metadata(scratch.lower("sparse")).unwrap();
    assert_eq!((sparse.mtime(), sparse.mtime_nsec(), sparse.len()), (1000, 5, (50 << 20) + 3));
    assert!(sparse.blocks() < 1000, "{}", sparse.blocks());
    assert_eq!(scratch.apply().applied, NONE);
}

#[test]
fn links_are_carried_over_unless_they_lead_out() {
    let mut scratch = Scratch::new();
    scratch.begin();
    fs::create_dir(scratch.upper("d")).unwrap();
    for (name, to) in
        [("d/in", "../x"), ("d/out", "../../x"), ("etc", "/etc"), ("own", "/work/d"), ("x", "d")]
    {
        symlink(to, scratch.upper(name)).unwrap();
    }
    let outcome = scratch.apply();
    assert_eq!(outcome.applied, ["d", "d/in", "own", "x"]);
    assert_eq!(
        outcome.refused,
        [
            "d/out: the link leads out of the project, to \"../../x\"",
            "etc: the link leads out of the project, to \"/etc\""
        ]
    );
    // Not by force either: that is for conflicts.
    let forced = scratch.force();
    assert_eq!((forced.applied.len(), forced.refused.len()), (0, 2));
    assert!(!scratch.lower("etc").is_symlink());
}

#[test]
fn a_file_belongs_to_the_owner_of_what_it_replaces() {
    let mut scratch = Scratch::new();
    write(scratch.lower("d/old"), "old");
    let theirs = |path| std::os::unix::fs::chown(path, Some(4321), Some(4322));
    if theirs(scratch.lower("d")).and(theirs(scratch.lower("d/old"))).is_err() {
        eprintln!("skipped: only root gives files away");
        return;
    }
    set_mode(scratch.lower("d"), 0o755);
    scratch.begin();
    write(scratch.upper("d/old"), "changed");
    write(scratch.upper("d/new/file"), "new");
    symlink("x", scratch.upper("d/link")).unwrap();
    assert_eq!(scratch.apply().refused, NONE);
    for name in ["d/old", "d/new", "d/new/file", "d/link"] {
        let facts = fs::symlink_metadata(scratch.lower(name)).unwrap();
        assert_eq!((facts.uid(), facts.gid()), (4321, 4322), "{name}");
    }
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let mut scratch = Scratch::new();
    let lower = scratch.lower("");
    let mount =
        |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).arg(&lower).status();
    let tmpfs = ["mount", "-t", "tmpfs", "-o", "size=1m", "agentkernel-test"];
    if !mount(&tmpfs).is_ok_and(|status| status.success()) {
        eprintln!("skipped: only root mounts a small file system");
        return;
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        write(scratch.lower("file"), "old");
        scratch.begin();
        write(scratch.upper("file"), vec![b'x'; 2 << 20]);
        write(scratch.upper("a-small"), "small");
        let report = scratch.try_apply(&[], false).unwrap();
        assert!(matches!(report.refused[0].reason, Reason::Failed(_)), "{report:?}");
        assert_eq!((report.applied.len(), report.refused.len()), (1, 1));
        assert_eq!(read(scratch.lower("file")), "old");
        // With less in it there is room, and nobody is taken for a stranger. Programs that other
        // tests are just starting may still hold what was removed.
        write(scratch.upper("file"), "less");
        let applied = (0..100).any(|_| scratch.apply().applied == ["file"]);
        assert!(applied);
    }));
    assert!(mount(&["umount", "-l"]).unwrap().success());
    outcome.unwrap();
}

#[test]
fn without_a_folder_of_the_host_there_is_nothing_to_apply_to() {
    let mut scratch = Scratch::new();
    scratch.layer.lower = None;
    assert!(matches!(scratch.try_apply(&[], false), Err(FilesError::NoHost(_))));
}
