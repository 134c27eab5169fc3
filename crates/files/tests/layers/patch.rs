use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use agentkernel_files::patch;

use crate::scratch::{Scratch, has, mode, read, set_mode, whiteout, write};

fn patch_of(scratch: &Scratch) -> Vec<u8> {
    let mut text = Vec::new();
    patch(std::slice::from_ref(&scratch.layer), &mut text).unwrap();
    text
}

fn text_of(scratch: &Scratch) -> String {
    String::from_utf8(patch_of(scratch)).unwrap()
}

#[test]
fn a_change_is_shown_with_its_surroundings() {
    let scratch = Scratch::new();
    let lines: String = (1..=20).map(|line| format!("{line}\n")).collect();
    write(scratch.lower("src/a b.txt"), &lines);
    write(scratch.upper("src/a b.txt"), lines.replace("10\n", "ten\n"));
    assert_eq!(
        text_of(&scratch),
        "diff --git \"a/src/a b.txt\" \"b/src/a b.txt\"\n\
         --- \"a/src/a b.txt\"\n+++ \"b/src/a b.txt\"\n\
         @@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n"
    );
}

#[test]
fn git_makes_the_same_of_it() {
    if !has("git") {
        return;
    }
    let scratch = Scratch::new();
    let odd = OsStr::from_bytes(b"odd \"\n\t\\ \xff");
    for name in ["changed", "tree/a", "tree/b", "folder/in", "file", "mode", "unended"] {
        write(scratch.lower(name), "one\ntwo\n");
    }
    symlink("changed", scratch.lower("link")).unwrap();
    symlink("changed", scratch.lower("to-file")).unwrap();
    for name in [OsStr::new("changed"), OsStr::new("new/deep"), odd] {
        write(scratch.upper(name), "one\r\n2\r3\nthree\n");
    }
    write(scratch.upper("empty"), "");
    write(scratch.upper("unended"), "one\ntwo\r");
    write(scratch.upper("to-file"), "file");
    write(scratch.upper("folder"), "now a file");
    write(scratch.upper("file/in"), "now a folder");
    write(scratch.upper("mode"), "one\ntwo\n");
    set_mode(scratch.upper("mode"), 0o755);
    symlink("elsewhere", scratch.upper("link")).unwrap();
    let deleted = whiteout(scratch.upper("tree"));
    let text = patch_of(&scratch);
    let mut git = Command::new("git")
        .args(["apply", "--verbose", "-"])
        .current_dir(scratch.lower(""))
        .env("GIT_CEILING_DIRECTORIES", scratch.lower("").parent().unwrap())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(&text).unwrap();
    assert!(git.wait().unwrap().success(), "{}", String::from_utf8_lossy(&text));
    assert_eq!(scratch.changes(), [""; 0], "{}", String::from_utf8_lossy(&text));
    assert_eq!(read(scratch.lower(odd)), "one\r\n2\r3\nthree\n");
    assert_eq!(mode(scratch.lower("mode")) & 0o100, 0o100);
    assert_eq!(scratch.lower("tree").exists(), !deleted);
}

#[test]
fn what_is_no_text_is_only_said_to_differ() {
    let scratch = Scratch::new();
    write(scratch.lower("binary"), b"a\0b");
    write(scratch.upper("binary"), b"a\0c");
    write(scratch.upper("large"), vec![b'\n'; (1 << 20) + 1]);
    assert_eq!(
        text_of(&scratch),
        "diff --git a/binary b/binary\nBinary files a/binary and b/binary differ\n\
         diff --git a/large b/large\nnew file mode 100644\n\
         Binary files /dev/null and b/large differ\n"
    );
}

#[test]
fn a_file_that_is_hard_to_compare_takes_no_hours() {
    let scratch = Scratch::new();
    let mut state = 1_u32;
    let mut noise = || -> String {
        (0..150_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                format!("{}\n", state >> 30)
            })
            .collect()
    };
    write(scratch.lower("noise"), noise());
    write(scratch.upper("noise"), noise());
    let began = std::time::Instant::now();
    assert!(text_of(&scratch).starts_with("diff --git a/noise b/noise\n"));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn several_layers_are_told_apart() {
    let (one, other) = (Scratch::new(), Scratch::new());
    write(one.upper("a"), "a\n");
    fs::create_dir(other.upper("only-a-folder")).unwrap();
    let mut second = other.layer.clone();
    second.target = "/other".into();
    let mut text = Vec::new();
    patch(&[one.layer.clone(), second], &mut text).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "Layer /work\ndiff --git a/a b/a\nnew file mode 100644\n--- /dev/null\n+++ b/a\n\
         @@ -0,0 +1,1 @@\n+a\nLayer /other\n"
    );
}
