//! Records that are damaged, of another time, or in places that can't be used.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use agentkernel_core::Capability;

use super::{Home, life};
use crate::conformance::bad_input::refused;
use crate::host::tree;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    life(
        "store-corrupt",
        "a store that is damaged is an error for every verb, and is left as it is",
        store_corrupt,
    ),
    life(
        "store-newer",
        "a store of a newer agentkernel is an error for every verb, and is left as it is",
        store_newer,
    ),
    life(
        "store-read-only",
        "on a disk that can't be written, what needs to write is refused in clear words",
        store_read_only,
    ),
    life(
        "folders-private",
        "the folders of state and sockets are closed to others, and refused where they are open",
        folders_private,
    ),
    life(
        "long-runtime-path",
        "a folder for sockets with a very long path works, or is refused with what to do",
        long_runtime_path,
    ),
    Behaviour {
        needs: &[Capability::Live, Capability::MountCopyOnWrite],
        ..life(
            "odd-state-path",
            "the folder of state may have spaces, colons, quotes and letters of any kind in its path",
            odd_state_path,
        )
    },
];

/// What every verb that looks into the store can be tried with.
const VERBS: [&[&str]; 6] = [
    &["ps", "-a"],
    &["create", "new"],
    &["start", "there"],
    &["exec", "there", "--", "true"],
    &["rm", "-f", "there"],
    &["inspect", "there"],
];

/// Every verb is refused, and changes no file of the store.
fn all_refused(home: &Home<'_>) -> Verdict {
    let database = home.state().join("store.db");
    let before = (fs::read(&database)?, home.traces());
    for verb in VERBS {
        let got = home.run(verb)?;
        refused(&got, &["store"])?;
        ensure!((fs::read(&database)?, home.traces()) == before, "it was changed by {got}");
    }
    Ok(())
}

/// A home with a sandbox named `there` that does not run, and the store's bytes.
fn with_a_sandbox(subject: &Subject) -> Result<(Home<'_>, Vec<u8>), NotPassed> {
    let home = Home::new(subject)?;
    home.does(&["create", "there"])?;
    let store = fs::read(home.state().join("store.db"))?;
    Ok((home, store))
}

fn store_corrupt(subject: &Subject) -> Verdict {
    let (home, good) = with_a_sandbox(subject)?;
    let database = home.state().join("store.db");
    let half = good.get(..good.len() / 2).unwrap_or_default();
    let scrambled: Vec<u8> = good.iter().map(|byte| byte ^ 0x5a).collect();
    for bad in [&b"no database\n"[..], &scrambled, half] {
        fs::write(&database, bad)?;
        all_refused(&home)?;
    }
    fs::write(&database, &good)?;
    home.is("there", "created")
}

fn store_newer(subject: &Subject) -> Verdict {
    let (home, good) = with_a_sandbox(subject)?;
    let database = home.state().join("store.db");
    // The number that a program may set, big endian: https://sqlite.org/fileformat2.html
    let file = fs::OpenOptions::new().write(true).open(&database)?;
    file.write_all_at(&9_999_u32.to_be_bytes(), 60)?;
    all_refused(&home)?;
    fs::write(&database, &good)?;
    home.is("there", "created")
}

fn store_read_only(subject: &Subject) -> Verdict {
    let (home, _) = with_a_sandbox(subject)?;
    let before = tree(&home.state());
    let folder = home.scratch.path().join("state");
    let script = format!(
        "mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}' || exit 77; \
         exec setpriv --reuid {1} --regid {2} --clear-groups \"$0\" \"$@\"",
        folder.display(),
        subject.caller.uid(),
        subject.caller.gid()
    );
    if !rustix::process::geteuid().is_root() {
        skip!("only root can make a disk read-only");
    }
    for verb in VERBS {
        let command = home.command(verb);
        let unshare = ["unshare", "--mount", "sh", "-c", &script];
        let got = Captured::of(crate::Caller::Me.through(&unshare, &command))?;
        if got.status.code() == Some(77) {
            skip!("this machine does not let root mount: {got}");
        }
        // To look is no change.
        if ["ps", "inspect"].contains(verb.first().unwrap_or(&"")) {
            ensure!(got.text().contains("there"), "what there is is not shown: {got}");
        } else {
            refused(&got, &[])?;
        }
    }
    let after = tree(&home.state());
    ensure!(before == after, "a disk that can't be written was changed to {after:?}");
    Ok(())
}

fn folders_private(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    for folder in ["state/agentkernel", "runtime/agentkernel", "runtime/agentkernel/sandboxes"] {
        let folder = home.scratch.path().join(folder);
        let data = folder.metadata()?;
        let mode = data.mode() & 0o777;
        ensure!(mode == 0o700, "{} has the mode {mode:o}", folder.display());
        fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        home.refuses(&["exec", &name, "--", "true"], &[&folder.display().to_string()])?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    }
    home.shell(&name, "echo there")?.exits(0)?.prints("there\n")?;
    for file in ["store.db", "audit.jsonl"] {
        let mode = home.state().join(file).metadata()?.mode() & 0o777;
        ensure!(mode == 0o600, "{file} has the mode {mode:o}");
    }
    Ok(())
}

fn long_runtime_path(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    for length in [60, 90, 100, 107, 108, 150, 255] {
        let name = format!("to-{length}");
        let mut folder = home.scratch.path().join("runtime");
        let more = usize::saturating_sub(length, folder.as_os_str().len() + 1).max(1);
        folder.push("x".repeat(more));
        let with = |arguments: &[&str]| {
            let mut command = home.command(arguments);
            command.env("XDG_RUNTIME_DIR", &folder);
            Captured::of(command)
        };
        fs::create_dir(&folder)?;
        home.scratch.give(&folder)?;
        with(&["create", &name])?.exits(0)?;
        let started = with(&["start", &name])?;
        match started.status.success() {
            true => drop(with(&["exec", &name, "--", "echo", "there"])?.prints("there\n")?),
            false => drop(refused(&started, &["XDG_RUNTIME_DIR"])?),
        }
        let removed = with(&["rm", "-f", &name])?;
        ensure!(removed.status.success(), "it can't be removed: {removed}");
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

fn odd_state_path(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (_, project) = home.project()?;
    for odd in ["two words", "a:b,c=d", "it's \"so\"", "back\\slash", "\u{fc}ml\u{e4}ut", "%41?x#y"]
    {
        let folder = home.scratch.folder(Path::new("state").join(odd))?;
        let with = |arguments: &[&str]| {
            let mut command = home.command(arguments);
            command.env("XDG_STATE_HOME", &folder);
            Captured::of(command)
        };
        with(&["create", &project, "odd"])?.exits(0)?.complains("")?;
        with(&["start", "odd"])?.exits(0)?.complains("")?;
        let change = ["exec", "odd", "--", "sh", "-c", "echo new > changed; cat changed kept"];
        let got = with(&change)?;
        let removed = with(&["rm", "-f", "odd"])?;
        got.exits(0)?.prints("new\nkept\n")?.complains("")?;
        removed.exits(0)?;
    }
    Ok(())
}
