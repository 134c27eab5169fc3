//! Files carried in and out of a sandbox.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::{Home, change, life};
use crate::lent::is_lent_to;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    life(
        "cp-there-and-back",
        "files, folders and links come back from a sandbox with contents, modes and times",
        cp_there_and_back,
    ),
    life(
        "cp-where-to",
        "cp puts things where docker cp does: into a folder that is there, or under a new name",
        cp_where_to,
    ),
    life(
        "cp-of-a-stopped-one",
        "files go in and out of a sandbox that is not running",
        cp_of_a_stopped_one,
    ),
    change(
        "cp-of-a-stopped-project",
        "what a sandbox that is not running has changed in a project comes out, and all else of it",
        cp_of_a_stopped_project,
    ),
    life(
        "cp-never-follows-links-out",
        "a link in the sandbox leads within it, and never to a file of the host's",
        cp_never_follows_links_out,
    ),
    life(
        "cp-of-special-files",
        "fifos, sockets and devices are refused by name or made anew, and never opened",
        cp_of_special_files,
    ),
    life("cp-sparse", "a sparse file stays sparse both ways", cp_sparse),
    life(
        "cp-as-a-stream",
        "- is a tar stream, on the standard input and on the standard output",
        cp_as_a_stream,
    ),
    life(
        "cp-mistakes",
        "cp of what is not there, between two hosts or two sandboxes is refused",
        cp_mistakes,
    ),
];

impl Home<'_> {
    /// A sandbox that runs, whose user's files its caller may make.
    fn started_for_copies(&self) -> Result<String, NotPassed> {
        if self.subject.host.is_none() && is_lent_to(self.subject) {
            skip!("its user's files are not the caller's to make");
        }
        self.started(&NO_FLAGS)
    }

    /// `agentkernel cp SOURCE TARGET`
    fn copies(
        &self,
        source: impl AsRef<OsStr>,
        target: impl AsRef<OsStr>,
    ) -> Result<Captured, NotPassed> {
        self.run(&["cp".as_ref(), source.as_ref(), target.as_ref()])
    }
}

/// NAME:PATH
fn at(name: &str, path: &str) -> String {
    format!("{name}:{path}")
}

/// What can be told of a tree, for a comparison.
const TELL: &str = "find . -mindepth 1 -printf '%P %y %m %l %T@\\n' | sort; \
                    find . -type f -exec sha256sum {} + | sort";

fn told(folder: &Path) -> Result<Vec<u8>, NotPassed> {
    let mut tell = Command::new("sh");
    tell.args(["-c", TELL]).current_dir(folder);
    tell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let got = Captured::of(tell)?;
    got.exits(0)?.complains("")?;
    Ok(got.stdout)
}

fn cp_there_and_back(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started_for_copies()?;
    let folder = home.scratch.folder("work/folder")?;
    for (file, mode) in [("plain", 0o644), ("script", 0o755), ("secret", 0o600), ("read", 0o444)] {
        let path = home.scratch.file(folder.join(file), format!("{file}\n"))?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    home.scratch.file(folder.join("two\nlines \u{e9}"), "odd\n")?;
    home.scratch.folder("work/folder/inner")?;
    home.scratch.file(folder.join("inner/deep"), vec![7; 300_000])?;
    symlink("plain", folder.join("link"))?;
    symlink("/etc/passwd", folder.join("link-out"))?;
    symlink("missing", folder.join("dangling"))?;
    let old = SystemTime::UNIX_EPOCH + Duration::from_millis(981_173_106_789);
    let times = FileTimes::new().set_modified(old).set_accessed(old);
    File::open(folder.join("plain"))?.set_times(times)?;
    File::open(folder.join("inner"))?.set_times(times)?;
    let before = told(&folder)?;
    home.copies("folder", at(&name, "/home/agent/copy"))?.exits(0)?.prints("")?.complains("")?;
    let inside = home.shell(&name, &format!("cd ~/copy && {TELL}"))?;
    inside.exits(0)?.prints(&before)?;
    // What was carried in belongs to the sandbox's user.
    home.shell(&name, "cd ~/copy && cat secret && echo more >> inner/deep && stat -c %U secret")?
        .exits(0)?
        .prints("secret\nagent\n")?;
    home.shell(&name, "truncate -s 300000 ~/copy/inner/deep")?.exits(0)?;
    home.copies(at(&name, "/home/agent/copy/plain"), "back-file")?.exits(0)?.complains("")?;
    let file = home.scratch.path().join("work/back-file");
    let data = file.metadata()?;
    ensure!(data.modified()? == old, "the time of a file is {:?}", data.modified()?);
    ensure!(data.uid() == subject.caller.uid(), "a file that came out belongs to {}", data.uid());
    home.copies(at(&name, "/home/agent/copy"), "back")?.exits(0)?.complains("")?;
    let names = |told: &[u8]| String::from_utf8_lossy(told).lines().count();
    let after = told(&home.scratch.path().join("work/back"))?;
    ensure!(names(&after) == names(&before), "some did not come back: {}", names(&after));
    Ok(())
}

fn cp_where_to(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started_for_copies()?;
    home.scratch.file("work/file", "file\n")?;
    home.scratch.folder("work/folder")?;
    home.scratch.file("work/folder/inner", "inner\n")?;
    home.shell(&name, "mkdir ~/there; echo old > ~/old")?.exits(0)?;
    for (source, target, result) in [
        ("file", "/home/agent/there", "there/file"),
        ("file", "/home/agent/there/", "there/file"),
        ("file", "/home/agent/new", "new"),
        ("file", "/home/agent/old", "old"),
        ("folder", "/home/agent/there", "there/folder/inner"),
        ("folder", "/home/agent/copy", "copy/inner"),
        ("folder/.", "/home/agent/there", "there/inner"),
    ] {
        home.copies(source, at(&name, target))?.exits(0)?.complains("")?;
        let got = home.shell(&name, &format!("cat ~/{result}; rm -rf ~/{result}"))?;
        let expected = if result.ends_with("inner") { "inner\n" } else { "file\n" };
        got.exits(0)?.prints(expected)?;
    }
    // The same the other way.
    home.shell(&name, "mkdir ~/out; echo out > ~/out/file")?.exits(0)?;
    home.scratch.folder("work/place")?;
    for (source, target, result) in [
        ("/home/agent/out/file", "place", "place/file"),
        ("/home/agent/out/file", "named", "named"),
        ("/home/agent/out", "place", "place/out/file"),
        ("/home/agent/out/.", "place", "place/file"),
        ("/home/agent/out", "whole", "whole/file"),
    ] {
        home.copies(at(&name, source), target)?.exits(0)?.complains("")?;
        let result = home.scratch.path().join("work").join(result);
        let found = fs::read_to_string(&result).unwrap_or_default();
        ensure!(found == "out\n", "{source} to {target}: {} has {found:?}", result.display());
        fs::remove_file(result)?;
    }
    for (source, target) in [("file", "/home/agent/missing/"), ("folder", "/home/agent/old")] {
        home.shell(&name, "echo old > ~/old")?.exits(0)?;
        let got = home.copies(source, at(&name, target))?;
        super::bad_input::refused(&got, &[])?;
    }
    Ok(())
}

fn cp_of_a_stopped_one(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started_for_copies()?;
    home.shell(&name, "echo inside > ~/file")?.exits(0)?;
    home.does(&["stop", &name])?;
    home.copies(at(&name, "/home/agent/file"), "one")?.exits(0)?.complains("")?;
    let found = fs::read_to_string(home.scratch.path().join("work/one"))?;
    ensure!(found == "inside\n", "what came out is {found:?}");
    home.scratch.file("work/late", "late\n")?;
    home.copies("late", at(&name, "/home/agent/late"))?.exits(0)?.complains("")?;
    home.does(&["start", &name])?;
    home.shell(&name, "cat ~/late; stat -c %U ~/late")?.exits(0)?.prints("late\nagent\n")?;
    Ok(())
}

fn cp_of_a_stopped_project(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    home.shell(&name, "echo new > changed")?.exits(0)?;
    home.does(&["stop", &name])?;
    for (file, content) in [("changed", "new\n"), ("kept", "kept\n")] {
        home.copies(at(&name, &project.join(file).display().to_string()), "out")?.exits(0)?;
        let found = fs::read_to_string(home.scratch.path().join("work/out"))?;
        ensure!(found == content, "what came out is {found:?}");
    }
    Ok(())
}

fn cp_never_follows_links_out(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let secret = home.scratch.file("home/secret", "secret\n")?;
    let folder = home.scratch.path().join("home");
    home.scratch.file("work/new", "new\n")?;
    let script = format!(
        "cd; ln -s {0} file; ln -s {1} folder; ln -s ../../../../../../../../..{0} up; \
         ln -s /proc/1/root{0} root; mkdir -p sub; ln -s {1} sub/folder",
        secret.display(),
        folder.display()
    );
    home.shell(&name, &script)?.exits(0)?;
    for stopped in [false, true] {
        for path in ["file", "folder/secret", "up", "root", "sub/folder/secret"] {
            let source = at(&name, &format!("/home/agent/{path}"));
            let got = home.copies(source, "out")?;
            let out = home.scratch.path().join("work/out");
            let found = fs::read_to_string(&out).unwrap_or_default();
            ensure!(found != "secret\n" || out.is_symlink(), "{path} led out: {got}");
            let _ = fs::remove_file(out);
        }
        for path in ["file", "folder/new", "up", "root", "sub/folder/new"] {
            home.copies("new", at(&name, &format!("/home/agent/{path}")))?;
            let now = fs::read_to_string(&secret)?;
            ensure!(now == "secret\n", "{path} led to a file of the host's, now {now:?}");
        }
        let names = home.names_in("home");
        ensure!(names == ["secret"], "something was written to the host: {names:?}");
        home.run(&[if stopped { "start" } else { "stop" }, &name])?.exits(0)?;
    }
    Ok(())
}

fn cp_of_special_files(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let script = "import socket; socket.socket(socket.AF_UNIX).bind('/home/agent/d/socket')";
    let make = format!("mkdir ~/d; mkfifo ~/d/fifo; echo x > ~/d/file; python3 -c \"{script}\"");
    home.shell(&name, &make)?;
    for (path, word) in [("/dev/zero", "zero"), ("/home/agent/d/socket", "socket")] {
        let got = home.copies(at(&name, path), "out")?;
        got.mentions(word)?;
        ensure!(!got.status.success(), "a special file was copied: {got}");
    }
    // A fifo is never read: it would block for ever.
    let got = home.copies(at(&name, "/home/agent/d/fifo"), "fifo")?;
    let made = home.scratch.path().join("work/fifo").symlink_metadata();
    let made = made.is_ok_and(|data| data.file_type().is_fifo());
    ensure!(made || got.errors().contains("fifo"), "neither made anew nor refused: {got}");
    let got = home.copies(at(&name, "/home/agent/d"), "folder")?;
    let file = home.scratch.path().join("work/folder/file");
    let found = fs::read_to_string(file).unwrap_or_default();
    ensure!(found == "x\n" || !got.status.success(), "the file beside them is lost: {got}");
    let fifo = home.scratch.path().join("work/host-fifo");
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(&fifo);
    subject.caller.become_in(&mut mkfifo);
    Captured::of(mkfifo)?.exits(0)?;
    let into = home.copies("host-fifo", at(&name, "/home/agent/host-fifo"))?;
    let there = home.shell(&name, "test -p ~/host-fifo")?.status.success();
    ensure!(there || into.errors().contains("host-fifo"), "not refused by its name: {into}");
    Ok(())
}

fn cp_sparse(subject: &Subject) -> Verdict {
    const SIZE: u64 = 1 << 30;
    let home = Home::new(subject)?;
    let name = home.started_for_copies()?;
    let path = home.scratch.file("work/sparse", "start\n")?;
    let file = File::options().write(true).open(&path)?;
    std::os::unix::fs::FileExt::write_all_at(&file, b"end\n", SIZE - 4)?;
    drop(file);
    if path.metadata()?.blocks() > 1 << 12 {
        skip!("this file system knows no sparse files");
    }
    home.copies("sparse", at(&name, "/home/agent/sparse"))?.exits(0)?.complains("")?;
    let look = "stat -c '%s' ~/sparse; head -c 6 ~/sparse; tail -c 4 ~/sparse; stat -c %b ~/sparse";
    let got = home.shell(&name, look)?;
    let text = got.exits(0)?.text();
    let blocks = text.strip_prefix("1073741824\nstart\nend\n").and_then(|b| b.trim().parse().ok());
    ensure!(blocks.is_some_and(|blocks: u64| blocks < 1 << 12), "it is not sparse inside: {got}");
    home.copies(at(&name, "/home/agent/sparse"), "back")?.exits(0)?.complains("")?;
    let data = home.scratch.path().join("work/back").metadata()?;
    let (size, blocks) = (data.len(), data.blocks());
    ensure!(size == SIZE && blocks < 1 << 12, "{size} bytes came back in {blocks} blocks");
    Ok(())
}

fn cp_as_a_stream(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started_for_copies()?;
    let folder = home.scratch.folder("work/folder")?;
    home.scratch.file(folder.join("file"), "file\n")?;
    let tar = |words: &[&OsStr]| {
        let mut tar = Command::new("tar");
        tar.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Captured::of(tar)
    };
    let made = tar(&[
        "-C".as_ref(),
        home.scratch.path().join("work").as_os_str(),
        "-c".as_ref(),
        "folder".as_ref(),
    ])?;
    let stream = home.scratch.file("in.tar", &made.exits(0)?.stdout)?;
    let mut into = home.command(&["cp", "-", &at(&name, "/home/agent")]);
    into.stdin(File::open(stream)?);
    Captured::of(into)?.exits(0)?.prints("")?.complains("")?;
    home.shell(&name, "cat ~/folder/file")?.exits(0)?.prints("file\n")?;
    let out = home.copies(at(&name, "/home/agent/folder"), "-")?;
    let file = home.scratch.file("out.tar", &out.exits(0)?.stdout)?;
    let shown = tar(&["-xOf".as_ref(), file.as_os_str(), "folder/file".as_ref()])?;
    shown.exits(0)?.prints("file\n")?;
    // A stream may not lead out of where it goes.
    let evil = home.scratch.path().join("evil.tar");
    let words: [OsString; 8] = [
        "-C".into(),
        folder.into(),
        "--transform".into(),
        "s,^,../../tmp/,".into(),
        "-P".into(),
        "-cf".into(),
        evil.clone().into(),
        "file".into(),
    ];
    tar(&words.iter().map(OsString::as_os_str).collect::<Vec<_>>())?.exits(0)?;
    let mut into = home.command(&["cp", "-", &at(&name, "/home/agent")]);
    into.stdin(File::open(evil)?);
    let got = Captured::of(into)?;
    let escaped = home.shell(&name, "test -e /tmp/file")?.status.success();
    ensure!(!escaped, "a stream wrote beside its target: {got}");
    let mut noise = home.command(&["cp", "-", &at(&name, "/home/agent")]);
    noise.stdin(File::open(home.scratch.file("noise", "no tar at all".repeat(100))?)?);
    super::bad_input::refused(&Captured::of(noise)?, &[]).map(drop)
}

fn cp_mistakes(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, other) = (home.started(&NO_FLAGS)?, home.created(&NO_FLAGS)?);
    home.scratch.file("work/file", "file\n")?;
    let inside = at(&name, "/home/agent/missing");
    for (source, target, part) in [
        ("missing", inside.as_str(), "missing"),
        (&inside, "out", "missing"),
        ("file", "other", ""),
        (&at(&name, "/etc/passwd"), &at(&other, "/home/agent/file"), ""),
        ("file", &at(&name, "relative"), ""),
        ("-", "-", ""),
    ] {
        let got = home.copies(source, target)?;
        // A path that is not absolute may as well be taken from the root.
        if target.ends_with("relative") && got.status.success() {
            continue;
        }
        super::bad_input::refused(&got, &[part])?;
    }
    home.refuses(&["cp", "file"], &[])?;
    home.refuses(&["cp", "file", "file", "file"], &[])
}
