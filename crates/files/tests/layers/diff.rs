use std::fs;
use std::os::unix::fs::symlink;

use agentkernel_files::{FileKind, Layer, changes};

use crate::scratch::{Scratch, mark, set_mode, whiteout, write};

#[test]
fn a_real_overlay_tells_all_that_was_done_in_it() {
    let mut scratch = Scratch::new();
    for name in ["changed", "deleted", "touched", "moved", "mode", "d/kept", "d/gone", "gone/a"] {
        write(scratch.lower(name), name);
    }
    write(scratch.lower("new/a"), "a");
    write(scratch.lower("new/b"), "b");
    symlink("changed", scratch.lower("link")).unwrap();
    scratch.begin();
    let script = "
        echo more >> changed; rm deleted d/gone; touch touched; mv moved renamed; chmod 755 mode
        rm -r gone; rm -r new; mkdir new; echo a2 > new/a; ln -sf deleted link
        mkdir -p x/y; echo z > x/y/z; chmod 700 d";
    if !scratch.run(script) {
        return;
    }
    assert_eq!(
        scratch.changes(),
        [
            "C changed",
            "C d",
            "D d/gone",
            "D deleted",
            "D gone",
            "C link",
            "C mode",
            "D moved",
            "C new/a",
            "D new/b",
            "A renamed",
            "A x",
            "A x/y",
            "A x/y/z"
        ]
    );
}

#[test]
fn what_is_the_same_as_before_is_no_change() {
    let scratch = Scratch::new();
    write(scratch.lower("d/same"), "same");
    write(scratch.upper("d/same"), "same");
    symlink("x", scratch.lower("link")).unwrap();
    symlink("x", scratch.upper("link")).unwrap();
    assert_eq!(scratch.changes(), [""; 0]);
    write(scratch.upper("d/same"), "Same");
    assert_eq!(scratch.changes(), ["C d/same"]);
}

#[test]
fn large_files_are_compared_to_the_end() {
    let scratch = Scratch::new();
    let mut text = vec![b'x'; 300_000];
    write(scratch.lower("big"), &text);
    write(scratch.upper("big"), &text);
    assert_eq!(scratch.changes(), [""; 0]);
    text[299_999] = b'y';
    write(scratch.upper("big"), &text);
    assert_eq!(scratch.changes(), ["C big"]);
}

#[test]
fn a_folder_and_a_file_replace_each_other() {
    let scratch = Scratch::new();
    write(scratch.lower("folder/inner"), "");
    write(scratch.lower("file"), "");
    write(scratch.upper("folder"), "now a file");
    write(scratch.upper("file/inner"), "now a folder");
    assert_eq!(scratch.changes(), ["C file", "A file/inner", "C folder"]);
}

#[test]
fn a_whiteout_over_nothing_is_no_change() {
    let scratch = Scratch::new();
    if whiteout(scratch.upper("nothing")) {
        assert_eq!(scratch.changes(), [""; 0]);
    }
}

#[test]
fn an_opaque_folder_hides_what_is_under_it() {
    let scratch = Scratch::new();
    write(scratch.lower("d/deep/a"), "");
    write(scratch.lower("d/b"), "");
    fs::create_dir(scratch.upper("d")).unwrap();
    if mark(scratch.upper("d"), "user.overlay.opaque", b"y") {
        assert_eq!(scratch.changes(), ["D d/b", "D d/deep"]);
    }
}

#[test]
fn layers_are_told_apart_and_sorted_together() {
    let (root, work) = (Scratch::new(), Scratch::new());
    write(root.upper("etc/made-up"), "");
    write(root.upper("zoo"), "");
    // Where the project is mounted, in the root's upper.
    write(root.upper("work/unseen"), "");
    write(root.upper("proc/unseen"), "");
    write(work.upper("new"), "");
    fs::create_dir(root.upper("copied")).unwrap();
    let copied = mark(root.upper("copied"), "user.overlay.origin", b"");
    let root_layer =
        Layer { target: "/".into(), lower: None, skip: vec!["/proc".into()], ..root.layer.clone() };
    let all = changes(&[work.layer.clone(), root_layer]).unwrap();
    let paths: Vec<_> = all.iter().map(|change| change.path.to_str().unwrap()).collect();
    let mut expected = vec!["/copied", "/etc", "/etc/made-up", "/work/new", "/zoo"];
    if copied {
        expected.remove(0);
    }
    assert_eq!(paths, expected);
    assert_eq!(all.last().unwrap().what, FileKind::File);
}

#[test]
fn only_the_mode_of_a_folder_counts() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.lower("d")).unwrap();
    fs::create_dir(scratch.upper("d")).unwrap();
    set_mode(scratch.lower("d"), 0o755);
    set_mode(scratch.upper("d"), 0o755);
    assert_eq!(scratch.changes(), [""; 0]);
    set_mode(scratch.upper("d"), 0o750);
    assert_eq!(scratch.changes(), ["C d"]);
}
