//! Files: to read what is hidden, to change what is only lent, to climb out of what is shared.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use agentkernel_core::Capability::{MountCopyOnWrite, MountReadOnly, MountReadWrite};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::attempt::{Attempt, control_finds};
use super::probe::{self, judge};
use super::scene::{Planted, canary, open_file, open_folder, open_to_all, volume};
use crate::host::tree;
use crate::{Behaviour, Caller, Captured, NotPassed, Running, Scratch, Subject, Verdict};
use crate::{ensure, known_limit, skip};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "read-the-callers-home",
        "the caller's home can't be read by any path",
        &[MountReadOnly],
        read_the_callers_home,
    ),
    Behaviour::new(
        "read-shadow",
        "no file of /etc that the host keeps from its users can be read",
        &[MountReadOnly],
        read_shadow,
    ),
    Behaviour::new(
        "read-temporary-files",
        "the host's temporary and shared memory folders can't be read",
        &[MountReadOnly],
        read_temporary_files,
    ),
    Behaviour::new(
        "read-host-files",
        "nothing below the host's /var, /home, /root, /srv, /mnt and /boot can be read",
        &[MountReadOnly],
        read_host_files,
    ),
    Behaviour::new(
        "write-to-the-hosts-folders",
        "what is written in any folder of the root never shows up on the host",
        &[MountReadOnly],
        write_to_the_hosts_folders,
    ),
    Behaviour::new(
        "climb-out-of-the-project",
        "no path leads from a shared folder to what lies beside it",
        &[MountReadOnly, MountReadWrite, MountCopyOnWrite],
        climb_out_of_the_project,
    ),
    Behaviour::new(
        "climb-out-of-a-moved-folder",
        "a folder that the host moves out of the shared one leads nowhere either",
        &[MountReadOnly, MountReadWrite],
        climb_out_of_a_moved_folder,
    ),
    Behaviour::new(
        "change-a-read-only-folder",
        "nothing about a read-only folder can be changed, by name or through what is open",
        &[MountReadOnly],
        change_a_read_only_folder,
    ),
    Behaviour::new(
        "change-a-copy-on-write-folder",
        "no change to a copy-on-write folder reaches the host",
        &[MountReadOnly, MountCopyOnWrite],
        change_a_copy_on_write_folder,
    ),
    Behaviour::new(
        "write-through-planted-links",
        "links in a shared folder lead to the sandbox's files and never to the host's",
        &[MountReadOnly, MountReadWrite, MountCopyOnWrite],
        write_through_planted_links,
    ),
    Behaviour::new(
        "link-files-in",
        "no file from outside of a shared folder is linked or moved into it",
        &[MountReadOnly, MountReadWrite],
        link_files_in,
    ),
    Behaviour::new(
        "open-planted-devices",
        "device nodes that are in a shared folder can't be opened",
        &[MountReadOnly, MountReadWrite, MountCopyOnWrite],
        open_planted_devices,
    ),
    Behaviour::new(
        "watch-the-hosts-files",
        "what is opened on the host can't be watched from a sandbox that sees the file",
        &[MountReadOnly],
        watch_the_hosts_files,
    )
    .alone(),
    Behaviour::new(
        "redirect-an-overlay",
        "the marks of overlays don't lead a copy-on-write folder elsewhere",
        &[MountReadOnly, MountCopyOnWrite],
        redirect_an_overlay,
    ),
];

fn read_the_callers_home(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let as_told = scratch.file("home/secret", "a secret\n")?;
    let real = std::env::home_dir().and_then(|home| Planted::in_folder(&home));
    let secrets = [Some(&as_told), real.as_ref().map(|planted| &planted.0)];
    let secrets: Vec<PathBuf> = secrets.into_iter().flatten().cloned().collect();
    Attempt::new("read-files").words(&secrets).holds_in(subject, &scratch)
}

/// The files that only some users may read, at most some dozens.
fn kept_from_users(folder: &Path, depth: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        match path.symlink_metadata() {
            Ok(data) if data.is_dir() && depth > 0 => {
                found.extend(kept_from_users(&path, depth - 1));
            }
            Ok(data) if data.is_file() && data.mode() & 0o004 == 0 && data.len() > 0 => {
                found.push(path);
            }
            _ => {}
        }
    }
    found.truncate(40);
    found
}

fn read_shadow(subject: &Subject) -> Verdict {
    let mut files = kept_from_users(Path::new("/etc"), 3);
    files.extend(["/etc/shadow", "/etc/gshadow", "/etc/sudoers"].map(PathBuf::from));
    Attempt::new("read-files").words(&files).holds(subject)
}

fn read_temporary_files(subject: &Subject) -> Verdict {
    let folders = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/var/cache", "/opt", "/"];
    let planted: Vec<Planted> =
        folders.iter().filter_map(|folder| Planted::in_folder(Path::new(folder))).collect();
    ensure!(!planted.is_empty(), "no file could be planted anywhere");
    let paths: Vec<&Path> = planted.iter().map(|planted| planted.0.as_path()).collect();
    Attempt::new("read-files").words(&paths).holds(subject)
}

/// Some files with something in them that the tests can read themselves.
fn samples(folder: &Path, depth: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let (mut found, mut folders) = (Vec::new(), Vec::new());
    for entry in entries.take(50) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folders.push(entry.path()),
            Ok(kind) if kind.is_file() && fs::File::open(entry.path()).is_ok() => {
                found.push(entry.path());
            }
            _ => {}
        }
    }
    if depth > 0 {
        let deeper = folders.iter().flat_map(|folder| samples(folder, depth - 1));
        found.extend(deeper.take(6));
    }
    found.retain(|file| file.metadata().is_ok_and(|data| data.len() > 0));
    found.truncate(6);
    found
}

fn read_host_files(subject: &Subject) -> Verdict {
    let folders = ["/var", "/var/lib", "/home", "/root", "/srv", "/mnt", "/boot"];
    let files: Vec<PathBuf> =
        folders.iter().flat_map(|folder| samples(Path::new(folder), 3)).collect();
    if files.is_empty() {
        skip!("the host has no files there");
    }
    Attempt::new("read-files").words(&files).holds(subject)
}

fn write_to_the_hosts_folders(subject: &Subject) -> Verdict {
    let folders = [
        "/",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/local",
        "/etc",
        "/lib",
        "/bin",
        "/var",
        "/var/tmp",
        "/tmp",
        "/run",
        "/dev/shm",
        "/home",
        "/root",
        "/opt",
        "/srv",
        "/mnt",
    ];
    let name = canary();
    let paths: Vec<PathBuf> = folders.iter().map(|folder| Path::new(folder).join(&name)).collect();
    let attempt = Attempt::new("overwrite-files").words(&paths);
    judge(&attempt.inside(subject, &subject.scratch()?)?)?;
    let landed: Vec<_> = paths.iter().filter(|path| path.exists()).collect();
    ensure!(landed.is_empty(), "on the host there are now {landed:?}");
    Ok(())
}

/// A folder to share and a secret beside it; the folder, the secret, and the words to reach it.
fn beside_a_secret(scratch: &Scratch) -> Result<(PathBuf, Vec<String>), NotPassed> {
    open_folder(scratch, "outside")?;
    let shared = open_folder(scratch, "outside/shared")?;
    let secret = open_file(scratch, "outside/secret", "a secret\n")?;
    let from_root = secret.to_string_lossy().trim_start_matches('/').to_string();
    Ok((shared, vec!["secret".into(), from_root]))
}

fn climb_out_of_the_project(subject: &Subject) -> Verdict {
    for access in ["ro", "rw", "cow"] {
        let scratch = subject.scratch()?;
        let (shared, words) = beside_a_secret(&scratch)?;
        Attempt::new("climb-out")
            .words(&words)
            .flags(&volume(&shared, "/shared", access))
            .flags(&["-w", "/shared"])
            .holds_in(subject, &scratch)?;
    }
    Ok(())
}

fn climb_out_of_a_moved_folder(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let (shared, _) = beside_a_secret(&scratch)?;
    open_folder(&scratch, "outside/shared/inner")?;
    let attempt = Attempt::new("climb-out-of-a-moved-folder")
        .words(&["/shared/inner", "secret"])
        .flags(&volume(&shared, "/shared", "rw"));
    let moved = || Ok(fs::rename(shared.join("inner"), scratch.path().join("outside/inner"))?);
    let got = with_an_event(attempt.command(subject, &scratch)?, moved)?;
    judge(&got)
}

/// A folder with a file in it, open to everyone.
fn lent_folder(scratch: &Scratch, name: &str) -> Result<PathBuf, NotPassed> {
    let folder = open_folder(scratch, name)?;
    open_file(scratch, Path::new(name).join("file"), "precious\n")?;
    Ok(folder)
}

fn change_a_read_only_folder(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = lent_folder(&scratch, "lent")?;
    let free = lent_folder(&scratch, "free")?;
    let before = tree(&folder);
    Attempt::new("change-a-read-only-folder")
        .words(&["/lent"])
        .flags(&volume(&folder, "/lent", "ro"))
        .control_words(&[&free])
        .holds_in(subject, &scratch)?;
    ensure!(tree(&folder) == before, "the folder on the host has changed");
    Ok(())
}

fn change_a_copy_on_write_folder(subject: &Subject) -> Verdict {
    let change = |access: &str| {
        let scratch = subject.scratch()?;
        let folder = lent_folder(&scratch, "lent")?;
        let before = tree(&folder);
        let attempt = Attempt::new("change-a-lent-folder")
            .words(&["/lent"])
            .flags(&volume(&folder, "/lent", access));
        let got = attempt.inside(subject, &scratch)?;
        Ok::<_, NotPassed>((judge(&got), before != tree(&folder)))
    };
    let (made, changed) = change("cow")?;
    ensure!(!changed, "the folder on the host has changed");
    match subject.notes.iter().find(|note| note.contains("copy-on-write")) {
        Some(note) => known_limit(made, note)?,
        None => made?,
    }
    if subject.has(MountReadWrite) {
        let (made, changed) = change("rw")?;
        made?;
        ensure!(changed, "read-write, nothing changed: nothing is shown");
    }
    Ok(())
}

fn write_through_planted_links(subject: &Subject) -> Verdict {
    for access in ["rw", "cow"] {
        let scratch = subject.scratch()?;
        let folder = open_folder(&scratch, "shared")?;
        open_folder(&scratch, "victims")?;
        let victim = open_file(&scratch, "victims/file", "precious\n")?;
        let victims = scratch.path().join("victims");
        symlink(&victim, folder.join("link"))?;
        symlink(&victims, folder.join("links"))?;
        symlink("../victims", folder.join("beside"))?;
        let before = tree(&victims);
        let paths = [
            "/shared/link",
            "/shared/links/file",
            "/shared/links/new",
            "/shared/beside/file",
            "/shared/beside/new",
        ];
        let attempt = Attempt::new("overwrite-files")
            .words(&paths)
            .flags(&volume(&folder, "/shared", access));
        judge(&attempt.inside(subject, &scratch)?)?;
        ensure!(tree(&victims) == before, "{access}: the victim has changed");
    }
    Ok(())
}

fn link_files_in(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = open_folder(&scratch, "shared")?;
    let free = open_folder(&scratch, "free")?;
    let own = scratch.file("own", "own\n")?;
    let outside = [
        "/probe/probe",
        "/usr/bin/env",
        "/etc/passwd",
        "/etc/hosts",
        "/proc/self/exe",
        "/proc/1/exe",
        "/dev/null",
        "/proc/version",
    ];
    Attempt::new("link-files-in")
        .words(&["/shared"])
        .words(&outside)
        .flags(&volume(&folder, "/shared", "rw"))
        .control_words(&[&free, &own])
        .holds_in(subject, &scratch)?;
    ensure!(tree(&folder).is_empty(), "on the host there is {:?}", tree(&folder));
    Ok(())
}

fn open_planted_devices(subject: &Subject) -> Verdict {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can make device nodes");
    }
    for access in ["ro", "rw", "cow"] {
        let scratch = subject.scratch()?;
        let folder = open_folder(&scratch, "shared")?;
        // Harmless ones, which everybody may open: the walls don't know that.
        for (name, number) in [("null", 3), ("zero", 5), ("urandom", 9)] {
            let path = folder.join(name);
            let device = makedev(1, number);
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::from(0o666), device)?;
            open_to_all(&path)?;
        }
        let paths = ["null", "zero", "urandom"].map(|name| format!("/shared/{name}"));
        let on_the_host = ["null", "zero", "urandom"].map(|name| folder.join(name));
        Attempt::new("open-planted-devices")
            .words(&paths)
            .flags(&volume(&folder, "/shared", access))
            .control_words(&on_the_host)
            .holds_in(subject, &scratch)?;
    }
    Ok(())
}

fn redirect_an_overlay(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let (shared, words) = beside_a_secret(&scratch)?;
    let words = [&["/shared".to_string()], words.as_slice()].concat();
    Attempt::new("redirect-an-overlay")
        .words(&words)
        .flags(&volume(&shared, "/shared", "cow"))
        .uncontrolled("no overlay is set up to be led away")
        .holds_in(subject, &scratch)
}

/// Starts the attempt, lets `meanwhile` happen once it says that it is there, and lets it go on.
fn with_an_event(
    mut command: std::process::Command,
    meanwhile: impl FnOnce() -> Verdict,
) -> Result<Captured, NotPassed> {
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::start(command)?;
    running.until("there\n")?;
    meanwhile()?;
    if let Some(mut stdin) = running.take_stdin() {
        stdin.write_all(b"done\n")?;
    }
    running.finish()
}

fn watch_the_hosts_files(subject: &Subject) -> Verdict {
    let (name, words) = ("watch-files", ["/usr/bin", "env"]);
    let open_it = || {
        let mut command = std::process::Command::new("/usr/bin/env");
        command.arg("true");
        Captured::of(command)?.exits(0).map(drop)
    };
    let scratch = subject.scratch()?;
    let command = Attempt::new(name).words(&words).command(subject, &scratch)?;
    let verdict = judge(&with_an_event(command, open_it)?);
    let words = [name, "/usr/bin", "env"];
    let control = probe::outside(Caller::Me, &scratch, &words)?;
    control_finds(name, &with_an_event(control, open_it)?)?;
    known_limit(verdict, "inotify tells when the host opens a program that the sandbox sees")
}
