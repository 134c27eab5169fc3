//! What is put into a place to come, which nobody in it can make: the agent's program, and the lists of
//! users.
//!
//! Where a container that does so is [beside] the place, whoever is to let that begin [waits](await_done) in
//! it, and the container ends when that one has gone.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor;
use agentkernel_sys::socket;

use super::{about, name_lines};
use crate::greeting::Resident;

/// The folder beside the program, where something else is mounted when nobody can make it any more.
const DOOR: &str = "door";

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it is waited before the next look whether somebody listens.
const BREATH: Duration = Duration::from_millis(5);

/// Puts this program's file at `target`, which is then whole, and makes the folders `own`, each of which is
/// the caller's alone.
pub fn install(target: &Path, own: &[impl AsRef<Path>]) -> io::Result<()> {
    let part = target.with_extension("part");
    let mut from = File::open("/proc/self/exe")?;
    io::copy(&mut from, &mut File::create(&part)?)?;
    fs::set_permissions(&part, Permissions::from_mode(0o755))?;
    fs::create_dir(target.with_file_name(DOOR))?;
    for folder in own {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    fs::rename(part, target)
}

/// Puts the lists of users that are here into a folder, with a name for the caller, who is `user`.
pub fn install_names(folder: &Path, user: &Resident) -> io::Result<()> {
    let about = about();
    let (passwd, group) = name_lines(user, &about);
    for (list, known, own) in [("passwd", about.passwd, passwd), ("group", about.group, group)] {
        let path = folder.join(list);
        fs::write(&path, known + &own.unwrap_or_default())?;
        fs::set_permissions(path, Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Does the work, tells whoever comes to `folder` for that that it is done, and lets them go first.
pub fn beside(folder: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let listener = socket::listen(&meeting(folder))?;
    work()?;
    let waits = socket::accept(listener.as_fd())?;
    socket::send(waits.as_fd(), &[0], &[])?;
    // Only their end brings theirs, as an error if they have left the word where it was.
    let _ = socket::receive(waits.as_fd(), &mut [0]);
    Ok(())
}

/// Waits until that work is done.
pub fn await_done(folder: &Path) -> io::Result<()> {
    let link = connect(&meeting(folder), PATIENCE)?;
    socket::await_word(link.as_fd(), PATIENCE)
}

fn meeting(folder: &Path) -> PathBuf {
    folder.join("done")
}

/// Connects to whoever listens at `path`, or will soon.
pub fn connect(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    let until = Instant::now() + patience;
    loop {
        match socket::connect(path, patience) {
            Ok(link) => return Ok(link),
            Err(error) if Instant::now() > until => return Err(error),
            // It is about to begin.
            Err(_) => descriptor::poll(&mut [], Some(BREATH))?,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_program_is_whole_before_its_place_begins() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (target, own) = (folder.join("agent"), folder.join("own"));
        thread::scope(|scope| {
            // Whoever is there first waits for the other.
            let waits = scope.spawn(|| await_done(folder));
            let installs = scope.spawn(|| beside(folder, || install(&target, &[&own])));
            waits.join().unwrap().unwrap();
            let program = fs::read("/proc/self/exe").unwrap();
            assert!(fs::read(&target).unwrap() == program);
            let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&target), mode(&own)), (0o755, 0o700));
            installs.join().unwrap().unwrap();
        });
    }

    #[test]
    fn lists_have_the_callers_name() {
        let folder = tempfile::tempdir().unwrap();
        let user =
            Resident { name: "agent".into(), home: "/home/agent".into(), uid: 123_456, gid: 7 };
        install_names(folder.path(), &user).unwrap();
        let own = fs::read_to_string("/etc/passwd").unwrap();
        let passwd = fs::read_to_string(folder.path().join("passwd")).unwrap();
        assert!(passwd.starts_with(&own) && passwd.contains("\nagent:x:123456:7:"), "{passwd}");
    }
}
