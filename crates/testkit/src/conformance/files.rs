//! Projects and volumes: what of the host's files a command sees and changes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agentkernel_core::Capability;

use super::bad_input::refused;
use crate::host::tree;
use crate::{
    Behaviour, Caller, Captured, NotPassed, Scratch, Subject, Verdict, ensure, known_limit, skip,
};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "project-copy-on-write",
        "a cow project can be changed in every way inside, and stays untouched outside",
        &[Capability::MountCopyOnWrite],
        project_copy_on_write,
    ),
    Behaviour::new(
        "project-read-only",
        "a ro project can be read and not changed",
        &[Capability::MountReadOnly],
        project_read_only,
    ),
    Behaviour::new(
        "project-read-write",
        "a rw project is changed for good, and what is new belongs to the caller",
        &[Capability::MountReadWrite],
        project_read_write,
    ),
    Behaviour::new(
        "project-by-default",
        "--project takes the current directory, as cow; in the permissive profile as rw",
        &[Capability::MountCopyOnWrite, Capability::MountReadWrite],
        project_by_default,
    ),
    Behaviour::new(
        "project-alone",
        "a project is seen at its own path, and nothing beside it",
        &[Capability::MountReadOnly],
        project_alone,
    ),
    Behaviour::new(
        "project-unchanged-is-equal",
        "contents, modes, links and odd names of a project look the same inside",
        &[Capability::MountReadOnly],
        project_unchanged_is_equal,
    ),
    Behaviour::new(
        "volume-directory",
        "-v puts a directory at any path, as ro, as rw, or as cow where that can be had",
        &[Capability::MountReadOnly, Capability::MountReadWrite],
        volume_directory,
    ),
    Behaviour::new(
        "volume-by-default",
        "-v without a word on access gives a volume that can only be read",
        &[Capability::MountReadOnly],
        volume_by_default,
    ),
    Behaviour::new(
        "volume-file",
        "-v puts a single file at any path, as ro or rw",
        &[Capability::MountReadOnly, Capability::MountReadWrite],
        volume_file,
    ),
    Behaviour::new(
        "mounts-give-no-rights",
        "what an ordinary caller may not read or change can't be by a mount, as whomever commands run",
        &[Capability::MountReadOnly, Capability::MountReadWrite],
        mounts_give_no_rights,
    ),
    Behaviour::new(
        "volumes-in-each-other",
        "volumes are mounted in their order, so that one can lie in another or in the project",
        &[Capability::MountReadOnly, Capability::MountCopyOnWrite],
        volumes_in_each_other,
    ),
    Behaviour::new(
        "copies-start-afresh",
        "two runs with the same cow project do not see each other's changes",
        &[Capability::MountCopyOnWrite],
        copies_start_afresh,
    ),
];

/// A project of the caller's, in a folder whose name has a space.
struct Project {
    scratch: Scratch,
    path: PathBuf,
}

impl Project {
    fn new(subject: &Subject) -> Result<Self, NotPassed> {
        let scratch = subject.scratch()?;
        let path = scratch.folder("work/the project")?;
        let file =
            |name: &str, text: &str| scratch.file(Path::new("work/the project").join(name), text);
        file("kept", "kept\n")?;
        file("changed", "old\n")?;
        file("deleted", "deleted\n")?;
        let script = file("script", "#!/bin/sh\necho ran\n")?;
        fs::set_permissions(script, Permissions::from_mode(0o755))?;
        for folder in ["folder", "renamed-folder", "folder/inner"] {
            scratch.folder(Path::new("work/the project").join(folder))?;
        }
        file("folder/moved", "moved\n")?;
        file("folder/inner/deep", "deep\n")?;
        file("renamed-folder/content", "content\n")?;
        symlink("kept", path.join("link"))?;
        symlink("/etc/passwd", path.join("link-outside"))?;
        Ok(Self { scratch, path })
    }

    /// Runs a script in the project with this access.
    fn run(&self, subject: &Subject, access: &str, script: &str) -> Result<Captured, NotPassed> {
        let mut project = OsString::from("--project=");
        project.push(&self.path);
        project.push(format!(":{access}"));
        let argv = ["sh", "-c", script];
        Captured::of(subject.run_command(&self.scratch, &[project], &argv))
    }
}

/// Changes a project in every way there is, and shows the result.
const CHANGE: &str = "set -e; echo new > changed; echo more >> kept; rm deleted; \
    mv folder/moved folder/inner/arrived; mv renamed-folder new-folder; rm -r folder/inner/deep; \
    mkdir -p made/deep; echo made > made/deep/file; ln -s made/deep/file new-link; \
    ln kept hard-link; rm link; chmod 600 script; : > empty; rm -r folder; mkdir folder; \
    echo again > folder/again; truncate -s 0 empty; \
    find . -type f -o -type l | sort; cat changed kept folder/again new-link new-folder/content";

const CHANGED: &str = "./changed\n./empty\n./folder/again\n./hard-link\n./kept\n./link-outside\n\
    ./made/deep/file\n./new-folder/content\n./new-link\n./script\n\
    new\nkept\nmore\nagain\nmade\ncontent\n";

fn project_copy_on_write(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    let before = tree(&project.path);
    let got = project.run(subject, "cow", CHANGE)?;
    let after = tree(&project.path);
    ensure!(before == after, "the host's project was changed from {before:?} to {after:?}");
    let changed = || got.exits(0)?.prints(CHANGED)?.complains("").map(drop);
    match subject.notes.iter().find(|note| note.contains("copy-on-write")) {
        None => changed(),
        Some(note) => known_limit(changed(), note),
    }
}

fn project_read_only(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    let before = tree(&project.path);
    let read = project.run(subject, "ro", "cat kept folder/inner/deep; ./script")?;
    read.exits(0)?.prints("kept\ndeep\nran\n")?.complains("")?;
    for change in [
        "echo new > changed",
        ": > created",
        "rm deleted",
        "mv folder elsewhere",
        "mkdir made",
        "chmod 777 script",
        "touch kept",
        "ln -s kept new-link",
        "mv kept deleted",
    ] {
        let got = project.run(subject, "ro", change)?;
        ensure!(!got.status.success(), "a read-only project was changed: {got}");
        got.mentions("Read-only file system")?;
    }
    // Not even root inside may.
    let mut flag = OsString::from("--project=");
    flag.push(&project.path);
    flag.push(":ro");
    if subject.has(Capability::User) {
        let flags = [flag.as_os_str(), OsStr::new("-u"), OsStr::new("0")];
        let argv = ["sh", "-c", "mount -o remount,rw . ; echo new > changed"];
        let got = Captured::of(subject.run_command(&project.scratch, &flags, &argv))?;
        ensure!(!got.status.success(), "root changed a read-only project: {got}");
    }
    ensure!(before == tree(&project.path), "the host's project was changed");
    Ok(())
}

fn project_read_write(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    project.run(subject, "rw", CHANGE)?.exits(0)?.prints(CHANGED)?.complains("")?;
    let read = |name: &str| fs::read_to_string(project.path.join(name));
    ensure!(read("changed")? == "new\n", "a change did not reach the host");
    ensure!(read("kept")? == "kept\nmore\n", "an addition did not reach the host");
    ensure!(read("made/deep/file")? == "made\n", "a new file did not reach the host");
    ensure!(read("new-folder/content")? == "content\n", "a renamed folder is gone");
    for gone in ["deleted", "folder/moved", "renamed-folder", "link"] {
        let there = project.path.join(gone).symlink_metadata().is_ok();
        ensure!(!there, "{gone} was deleted inside and is still there");
    }
    let mode = project.path.join("script").metadata()?.mode();
    ensure!(mode & 0o777 == 0o600, "the script's mode is {mode:o}");
    let owner = (subject.caller.uid(), subject.caller.gid());
    for new in ["made", "made/deep/file", "new-link", "empty", "folder/again"] {
        let data = project.path.join(new).symlink_metadata()?;
        let found = (data.uid(), data.gid());
        ensure!(found == owner, "{new} belongs to {found:?}, the caller is {owner:?}");
    }
    Ok(())
}

fn project_by_default(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    let change = ["sh", "-c", "pwd; echo new > changed; cat changed"];
    let expected = format!("{}\nnew\n", project.path.display());
    for (flags, remains) in [
        (vec!["--project"], "old\n"),
        (vec!["--project=."], "old\n"),
        (vec!["--profile", "moderate", "--project"], "old\n"),
        (vec!["--profile", "permissive", "--project"], "new\n"),
    ] {
        let mut command = subject.run_command(&project.scratch, &flags, &change);
        command.current_dir(&project.path);
        let got = Captured::of(command)?;
        got.exits(0)?.prints(&expected)?.complains("")?;
        let found = fs::read_to_string(project.path.join("changed"))?;
        ensure!(found == remains, "the host's file is {found:?}, not {remains:?}: {got}");
    }
    Ok(())
}

fn project_alone(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    project.scratch.file("work/beside", "beside\n")?;
    let got = project.run(subject, "ro", "pwd; ls ..; ls ../..; test -e ../beside; echo $?")?;
    got.exits(0)?.complains("")?;
    got.prints(format!("{}\nthe project\nwork\n1\n", project.path.display()))?;
    Ok(())
}

fn project_unchanged_is_equal(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    for name in ["-dash", "new\nline", "quo'te\"", "\u{fc}ml\u{e4}ut", "a:b", "back\\slash"] {
        project.scratch.file(Path::new("work/the project").join(name), name)?;
    }
    let secret = project.scratch.file("work/the project/secret", "own\n")?;
    fs::set_permissions(secret, Permissions::from_mode(0o600))?;
    let list = "find . -mindepth 1 -printf '%P %y %m %l %T@\\0' | sort -z; \
                find . -type f -exec sha256sum {} + | sort";
    let mut outside = std::process::Command::new("sh");
    outside.args(["-c", list]).current_dir(&project.path);
    outside.stdout(std::process::Stdio::piped());
    let expected = Captured::of(outside)?;
    let copies = subject.has(Capability::MountCopyOnWrite);
    for access in ["ro", "cow"].into_iter().take(1 + usize::from(copies)) {
        let got = project.run(subject, access, list)?;
        got.exits(0)?.prints(&expected.stdout)?.complains("")?;
    }
    Ok(())
}

/// `-v SOURCE:TARGET:ACCESS`
fn volume(source: &Path, target: &str, access: &str) -> [OsString; 2] {
    let mut volume = OsString::from(source);
    volume.push(format!(":{target}:{access}"));
    ["-v".into(), volume]
}

fn volume_directory(subject: &Subject) -> Verdict {
    let all = [("ro", "old\n", "old\n"), ("rw", "new\n", "new\n"), ("cow", "new\n", "old\n")];
    let copies = subject.has(Capability::MountCopyOnWrite);
    for target in ["/data", "/opt/deeply/nested/data", "/tmp/data", "/home/agent/data"] {
        for (access, inside, outside) in all.into_iter().take(2 + usize::from(copies)) {
            let scratch = subject.scratch()?;
            let source = scratch.folder("data")?;
            let file = scratch.file("data/file", "old\n")?;
            let script = format!("cd {target}; echo new > file; cat file");
            let flags = volume(&source, target, access);
            let argv = ["sh", "-c", &script];
            let got = Captured::of(subject.run_command(&scratch, &flags, &argv))?;
            got.exits(0)?.prints(inside)?;
            let found = fs::read_to_string(file)?;
            ensure!(found == outside, "the host's file is {found:?}, not {outside:?}: {got}");
        }
    }
    Ok(())
}

fn volume_by_default(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    scratch.folder("work/data")?;
    let file = scratch.file("work/data/file", "old\n")?;
    // A relative source is the caller's.
    let argv = ["sh", "-c", "cat /data/file; echo new > /data/file"];
    let got = Captured::of(subject.run_command(&scratch, &["-v", "./data:/data"], &argv))?;
    got.prints("old\n")?;
    ensure!(!got.status.success(), "a volume was changed: {got}");
    ensure!(fs::read_to_string(file)? == "old\n", "the host's file was changed: {got}");
    Ok(())
}

fn volume_file(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let file = scratch.file("file", "old\n")?;
    for target in ["/etc/service.conf", "/opt/new/file", "/tmp/file"] {
        let script = format!("cat {target}; echo new > {target}");
        let argv = ["sh", "-c", &script];
        let command = subject.run_command(&scratch, &volume(&file, target, "ro"), &argv);
        let got = Captured::of(command)?;
        // Who makes mounts can mount whatever there is; others have what their engine has.
        if got.status.code() == Some(125) && !subject.has(Capability::MountCopyOnWrite) {
            refused(&got, &["it is a file"])?;
            skip!("{} mounts folders only, and says so", subject.backend);
        }
        got.prints("old\n")?;
        ensure!(!got.status.success(), "a read-only file was changed: {got}");
        ensure!(fs::read_to_string(&file)? == "old\n", "the host's file was changed: {got}");
    }
    let argv = ["sh", "-c", "echo new > /opt/file"];
    let command = subject.run_command(&scratch, &volume(&file, "/opt/file", "rw"), &argv);
    Captured::of(command)?.exits(0)?.complains("")?;
    ensure!(fs::read_to_string(&file)? == "new\n", "the change did not reach the host");
    Ok(())
}

fn mounts_give_no_rights(subject: &Subject) -> Verdict {
    let Caller::User { .. } = subject.caller else {
        skip!("only root can make what somebody else may not use");
    };
    let scratch = subject.scratch()?;
    let users: &[&[&str]] =
        if subject.has(Capability::User) { &[&[], &["-u", "0"]] } else { &[&[]] };
    for (name, mode, access, script) in [
        ("closed", 0o700, "ro", "cat /data/file"),
        ("fixed", 0o755, "rw", "echo new > /data/file"),
        ("fixed", 0o755, "rw", "touch /data/new"),
    ] {
        let folder = scratch.path().join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("file"), "root's\n")?;
        fs::set_permissions(&folder, Permissions::from_mode(mode))?;
        let before = tree(&folder);
        for user in users {
            let mut flags: Vec<OsString> = volume(&folder, "/data", access).into();
            flags.extend(user.iter().map(Into::into));
            let argv = ["sh", "-c", script];
            let got = Captured::of(subject.run_command(&scratch, &flags, &argv))?;
            ensure!(!got.status.success() && got.text() == "", "{script} {user:?}: {got}");
            ensure!(before == tree(&folder), "{script} {user:?} changed the folder: {got}");
        }
    }
    Ok(())
}

fn volumes_in_each_other(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    let cache = project.scratch.folder("cache")?;
    project.scratch.file("cache/cached", "cached\n")?;
    let deep = project.scratch.file("deep", "deep\n")?;
    let inside = project.path.join("folder");
    let mut flag = OsString::from("--project=");
    flag.push(&project.path);
    let mut flags = vec![flag];
    flags.extend(volume(&cache, &inside.to_string_lossy(), "cow"));
    flags.extend(volume(&deep, &inside.join("cached").to_string_lossy(), "ro"));
    let argv = ["sh", "-c", "ls folder; cat folder/cached kept"];
    let got = Captured::of(subject.run_command(&project.scratch, &flags, &argv))?;
    got.exits(0)?.prints("cached\ndeep\nkept\n")?.complains("")?;
    Ok(())
}

fn copies_start_afresh(subject: &Subject) -> Verdict {
    let project = Project::new(subject)?;
    let script = "test -e mark && echo seen; touch mark; cat changed; echo new > changed";
    for _ in 0..2 {
        project.run(subject, "cow", script)?.exits(0)?.prints("old\n")?.complains("")?;
    }
    Ok(())
}
