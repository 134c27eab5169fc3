//! What of files a module sees and changes: what it was given, in its own sandbox.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use agentkernel_core::Capability;

use super::{Shelf, module};
use crate::host::tree;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "module-files-of-its-own",
        "a module has /tmp to write in, and sees nothing of what another has written there",
        module_files_of_its_own,
    )
    .needing(&[Capability::ImageModule, Capability::RootChanges]),
    module(
        "module-sees-no-host",
        "a module sees none of the host's files: they are not there, by whatever path",
        module_sees_no_host,
    ),
    module(
        "module-keeps-out-of-its-process",
        "a module can't open what shows or changes the process that it runs in",
        module_keeps_out_of_its_process,
    ),
    module(
        "module-has-no-programs",
        "a module's root has none of the host's programs and libraries",
        module_has_no_programs,
    )
    .needing(&[Capability::ImageModule, Capability::RootChanges]),
    module(
        "module-read-only-mount",
        "a module can read a ro mount and can't change it",
        module_read_only_mount,
    )
    .needing(&[Capability::ImageModule, Capability::MountReadOnly]),
    module(
        "module-read-write-mount",
        "what a module changes in a rw mount is changed for good, and belongs to the caller",
        module_read_write_mount,
    )
    .needing(&[Capability::ImageModule, Capability::MountReadWrite]),
    module(
        "module-copy-on-write-mount",
        "a module can change a cow mount, which stays untouched outside",
        module_copy_on_write_mount,
    )
    .needing(&[Capability::ImageModule, Capability::MountCopyOnWrite]),
    module(
        "module-project",
        "a module starts in its project, whose files it finds by relative paths",
        module_project,
    )
    .needing(&[Capability::ImageModule, Capability::MountReadOnly]),
    module(
        "module-links-lead-nowhere",
        "links in a rw mount, planted by whomever, lead a module to none of the host's files",
        module_links_lead_nowhere,
    )
    .needing(&[Capability::ImageModule, Capability::MountReadWrite]),
];

/// What `files.wat` says of what is not there, of what can't be written, and of a way out.
const NOT_THERE: &str = "errno 44\n";
const NOT_PERMITTED: [&str; 3] = ["errno 2\n", "errno 63\n", "errno 76\n"];

fn module_files_of_its_own(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let words = "exists /tmp/mark write /tmp/mark mine read /tmp/mark mkdir /tmp/folder \
                 name /tmp/mark /tmp/folder/moved list /tmp/folder unlink /tmp/folder/moved \
                 list /tmp/folder exists /tmp/mark";
    let words: Vec<&str> = words.split_whitespace().collect();
    for _ in 0..3 {
        let got = shelf.run(&NO_FLAGS, "files", &words)?;
        got.exits(0)?.prints(format!("{NOT_THERE}minemoved\n{NOT_THERE}"))?.complains("")?;
    }
    Ok(())
}

fn module_sees_no_host(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let secret = shelf.scratch.file("work/secret", "a secret of the host's")?;
    let secret = secret.to_string_lossy();
    let below = "../".repeat(20);
    let ways = [
        secret.to_string(),
        "secret".into(),
        format!("{below}{secret}"),
        format!("/{below}{secret}"),
        format!("/tmp/{below}{secret}"),
        format!("/proc/self/root{secret}"),
        format!("/proc/1/root{secret}"),
        "/proc/self/cwd/secret".into(),
        "/proc/1/cwd/secret".into(),
        "/proc/self/environ".into(),
        "/proc/1/environ".into(),
        "/etc/shadow".into(),
        "/etc/hostname".into(),
        "/etc/machine-id".into(),
    ];
    for way in &ways {
        let got = shelf.run(&NO_FLAGS, "files", &["read", way, "exists", way])?;
        got.exits(0)?.complains("")?;
        let environment = got.text().contains(&*shelf.scratch.path().to_string_lossy());
        let there = got.text().contains("secret of") || environment;
        ensure!(!there, "it is seen by {way}: {got}");
        let refused = got.text().starts_with("errno ");
        ensure!(refused || way.starts_with("/proc/"), "{way} can be read: {got}");
    }
    Ok(())
}

fn module_keeps_out_of_its_process(subject: &Subject) -> Verdict {
    // Who writes to its memory writes its code, and is past the inner wall.
    let shelf = Shelf::new(subject)?;
    let ways: &[&str] = if subject.sampled { &["self"] } else { &["self", "thread-self", "1"] };
    for way in ways {
        for file in ["mem", "environ", "maps", "exe", "auxv", "syscall"] {
            let path = format!("/proc/{way}/{file}");
            for words in [&["read", &path][..], &["write", &path, "x"]] {
                let got = shelf.run(&NO_FLAGS, "files", words)?;
                got.exits(0)?.complains("")?;
                let text = got.text();
                let refused = text.starts_with("errno ");
                ensure!(refused, "{path} can be opened: {got}");
            }
        }
    }
    Ok(())
}

fn module_has_no_programs(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for path in ["/bin/sh", "/usr/bin/env", "/lib64", "/usr/lib", "/home/agent/../../bin/sh"] {
        let got = shelf.run(&NO_FLAGS, "files", &["exists", path])?;
        got.exits(0)?.prints(NOT_THERE)?.complains("")?;
    }
    // What is there is the sandbox's own, the module aside.
    let got = shelf.run(&NO_FLAGS, "files", &["list", "/"])?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    for name in ["files.wat", "usr", "bin", "sbin", "lib", "root", "boot", "srv", "work"] {
        ensure!(!text.lines().any(|line| line == name), "/{name} is there: {got}");
    }
    ensure!(text.lines().any(|line| line == "tmp"), "there is no /tmp: {got}");
    Ok(())
}

/// A folder of the caller's, with a file in it and one in a folder of its own.
fn data(shelf: &Shelf<'_>) -> Result<PathBuf, NotPassed> {
    let folder = shelf.scratch.folder("work/data")?;
    shelf.scratch.file("work/data/file", "old")?;
    shelf.scratch.folder("work/data/deep")?;
    shelf.scratch.file("work/data/deep/file", "deep")?;
    Ok(folder)
}

/// Runs `files` with a folder at `/data`.
fn with_data(
    shelf: &Shelf<'_>,
    folder: &Path,
    access: &str,
    words: &str,
) -> Result<Captured, NotPassed> {
    let mut volume = OsString::from(folder);
    volume.push(format!(":/data:{access}"));
    let words: Vec<&str> = words.split_whitespace().collect();
    shelf.run(&["-v".into(), volume], "files", &words)
}

const CHANGE: &str = "write /data/file new write /data/made made mkdir /data/folder \
                      name /data/deep/file /data/folder/moved unlink /data/deep/file";

fn module_read_only_mount(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let folder = data(&shelf)?;
    let before = tree(&folder);
    let got = with_data(&shelf, &folder, "ro", "read /data/file read /data/deep/file")?;
    got.exits(0)?.prints("olddeep")?.complains("")?;
    let got = with_data(&shelf, &folder, "ro", CHANGE)?;
    got.exits(0)?.complains("")?;
    // Not every engine has a number for a file system that is read-only.
    let refused = got.text().lines().filter(|line| line.starts_with("errno ")).count();
    ensure!(refused == 5, "expected five refusals: {got}");
    ensure!(before == tree(&folder), "a read-only folder was changed: {got}");
    Ok(())
}

fn module_read_write_mount(subject: &Subject) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    let shelf = Shelf::new(subject)?;
    let folder = data(&shelf)?;
    let got = with_data(&shelf, &folder, "rw", &format!("{CHANGE} list /data/folder"))?;
    got.exits(0)?.prints(format!("{NOT_THERE}moved\n"))?.complains("")?;
    for (name, expected) in [("file", "new"), ("made", "made"), ("folder/moved", "deep")] {
        let found = fs::read_to_string(folder.join(name))?;
        ensure!(found == expected, "{name} holds {found:?} outside: {got}");
    }
    let owner = (subject.caller.uid(), subject.caller.gid());
    for name in ["made", "folder"] {
        let data = folder.join(name).metadata()?;
        let found = (data.uid(), data.gid());
        ensure!(found == owner, "{name} belongs to {found:?}, the caller is {owner:?}");
    }
    Ok(())
}

fn module_copy_on_write_mount(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let folder = data(&shelf)?;
    let before = tree(&folder);
    for _ in 0..2 {
        let words = format!("{CHANGE} read /data/file read /data/made read /data/folder/moved");
        let got = with_data(&shelf, &folder, "cow", &words)?;
        got.exits(0)?.prints(format!("{NOT_THERE}newmadedeep"))?.complains("")?;
        ensure!(before == tree(&folder), "the host's folder was changed: {got}");
    }
    Ok(())
}

fn module_project(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let folder = data(&shelf)?;
    shelf.scratch.file("work/beside", "beside")?;
    let mut project = OsString::from("--project=");
    project.push(&folder);
    project.push(":ro");
    let absolute = folder.join("file");
    let absolute = absolute.to_string_lossy();
    let words = ["read", "file", "read", "./deep/file", "read", &absolute];
    let got = shelf.run(&[&project], "files", &words)?;
    got.exits(0)?.prints("olddeepold")?.complains("")?;
    // What is beside it is not there, and by a relative path there is no way up.
    let beside = folder.with_file_name("beside");
    let words = ["read", "../beside", "read", &beside.to_string_lossy()];
    let got = shelf.run(&[&project], "files", &words)?;
    let text = got.text();
    let refused =
        NOT_PERMITTED.iter().chain([&NOT_THERE]).any(|errno| text == format!("{errno}{NOT_THERE}"));
    ensure!(refused, "expected two refusals: {got}");
    Ok(())
}

fn module_links_lead_nowhere(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let folder = data(&shelf)?;
    let secret = shelf.scratch.file("work/secret", "a secret of the host's")?;
    let below = PathBuf::from("../".repeat(20));
    let secret_from_root = secret.strip_prefix("/").unwrap_or(&secret);
    let targets =
        [secret.clone(), "../secret".into(), below.join(secret_from_root), "/etc/shadow".into()];
    for (number, target) in targets.iter().enumerate() {
        symlink(target, folder.join(format!("planted-{number}")))?;
    }
    symlink(secret.parent().unwrap_or(&secret), folder.join("folder-outside"))?;
    let mut words =
        vec!["read /data/folder-outside/secret write /data/folder-outside/secret new".to_owned()];
    for (number, target) in targets.iter().enumerate() {
        let target = target.display();
        words.push(format!("read /data/planted-{number} write /data/planted-{number} new"));
        // And by the module itself, where it may make such at all.
        words.push(format!("symlink /data/made-{number} {target} read /data/made-{number}"));
    }
    let before = fs::read_to_string(&secret)?;
    for words in words {
        let got = with_data(&shelf, &folder, "rw", &words)?;
        got.exits(0)?.complains("")?;
        ensure!(got.text().starts_with("errno "), "{words}: something was there: {got}");
        ensure!(!got.text().contains("secret of"), "{words}: the host's file was read: {got}");
        let after = fs::read_to_string(&secret)?;
        ensure!(before == after, "{words}: the host's file was changed: {got}");
    }
    Ok(())
}
