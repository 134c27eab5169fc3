//! What the tests of the store share.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use agentkernel_store::{Dirs, Name, NewRecord};
use agentkernel_testkit::Scratch;

/// Tells a copy of the test program where the store of the test that started it lies.
const FOLDER: &str = "STORE_TEST_FOLDER";
/// Tells it which of the copies it is.
const NUMBER: &str = "STORE_TEST_NUMBER";

pub fn scratch() -> Scratch {
    Scratch::new(None).unwrap()
}

pub fn dirs(scratch: &Scratch) -> Dirs {
    dirs_in(scratch.path())
}

fn dirs_in(folder: &Path) -> Dirs {
    let folder = folder.to_path_buf();
    let lookup = |name: &str| match name {
        "XDG_STATE_HOME" => Some(folder.join("state").into()),
        "XDG_RUNTIME_DIR" => Some(folder.join("runtime").into()),
        _ => None,
    };
    Dirs::find(lookup, 0).unwrap()
}

pub fn name(text: impl AsRef<str>) -> Name {
    text.as_ref().parse().unwrap()
}

pub fn new(text: impl AsRef<str>) -> NewRecord {
    NewRecord {
        id: None,
        name: name(text),
        backend: "native".into(),
        spec: r#"{"version":1}"#.into(),
        labels: BTreeMap::new(),
        ttl: None,
        idle: None,
        applied: None,
        origin: None,
    }
}

/// This program again, to run the one test `test` of it as copy `number`.
pub fn again(test: &str, scratch: &Scratch, number: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, scratch.path())
        .env(NUMBER, number.to_string());
    command
}

/// The folders and the number that a copy of the program is told; `None` in the first one.
pub fn told() -> Option<(Dirs, usize)> {
    let folder = std::env::var_os(FOLDER)?;
    let number = std::env::var(NUMBER).unwrap().parse().unwrap();
    Some((dirs_in(Path::new(&folder)), number))
}

/// Makes the folder `$0` read-only, as a disk may be.
pub const READ_ONLY: &str = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0""#;
/// Puts a small disk in the place of the folder `$0`.
pub const SMALL: &str = r#"mount -t tmpfs -o size=256k,mode=0700 none "$0""#;

/// [`again`], in a mount namespace of its own where `mount` was done to the folder; `None`, with
/// the reason printed, where that can't be had.
pub fn again_on(mount: &str, folder: &Path, test: &str, scratch: &Scratch) -> Option<Command> {
    let script = format!(r#"{mount} && exec "$@""#);
    let unshare = || {
        let mut command = Command::new("unshare");
        let flags = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
        command.args(flags).arg(folder);
        command
    };
    let can = unshare().arg("true").stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: nothing can be mounted here");
        return None;
    }
    let program = again(test, scratch, 0);
    let mut command = unshare();
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(command)
}
