//! The agent's program, put into a place to come by a container beside it.
//!
//! Two others come to that: who must not let the place begin before the program is there whole, and the
//! place's own process 1, which has taken it, so that the container is not needed any more.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor;
use agentkernel_sys::socket;

/// The folder beside it, where something else is mounted when nobody can make it any more.
const DOOR: &str = "door";

/// The socket beside it, where the two come to.
const MEETING: &str = "installed";

/// How long the program may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it is waited before the next look whether the container has begun.
const BREATH: Duration = Duration::from_millis(5);

/// Puts this program's file at `target`, which is then whole, and stays until it has been taken.
pub fn install(target: &Path) -> io::Result<()> {
    let listener = socket::listen(&meeting(target))?;
    let part = target.with_extension("part");
    let mut from = File::open("/proc/self/exe")?;
    io::copy(&mut from, &mut File::create(&part)?)?;
    fs::set_permissions(&part, Permissions::from_mode(0o755))?;
    fs::create_dir(target.with_file_name(DOOR))?;
    fs::rename(part, target)?;
    let waits = socket::accept(listener.as_fd())?;
    socket::send(waits.as_fd(), &[0], &[])?;
    socket::accept(listener.as_fd()).map(drop)
}

/// Waits until the file is at `target`.
pub fn await_installed(target: &Path) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let link = connect(&meeting(target), until)?;
    socket::await_word(link.as_fd(), until.saturating_duration_since(Instant::now()))
}

/// Lets go of whoever has put the calling program's file there, if that is how it came.
pub fn tell_taken(target: &Path) {
    let _ = socket::connect(&meeting(target), BREATH);
}

fn meeting(target: &Path) -> PathBuf {
    target.with_file_name(MEETING)
}

/// Connects to whoever listens at `path`, or will soon.
pub fn connect(path: &Path, until: Instant) -> io::Result<OwnedFd> {
    loop {
        match socket::connect(path, until.saturating_duration_since(Instant::now())) {
            Ok(link) => return Ok(link),
            Err(error) if Instant::now() > until => return Err(error),
            // It is about to begin.
            Err(_) => descriptor::poll(&mut [], Some(BREATH))?,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use super::*;

    #[test]
    fn a_program_is_whole_before_its_place_begins_and_its_container_goes_then() {
        let folder = tempfile::tempdir().unwrap();
        let target = &folder.path().join("agent");
        thread::scope(|scope| {
            // Whoever is there first waits for the other.
            let waits = scope.spawn(|| await_installed(target));
            let installs = scope.spawn(|| install(target));
            waits.join().unwrap().unwrap();
            let own = fs::read("/proc/self/exe").unwrap();
            assert!(fs::read(target).unwrap() == own);
            assert_eq!(fs::metadata(target).unwrap().permissions().mode() & 0o777, 0o755);
            assert!(!installs.is_finished());
            tell_taken(target);
            installs.join().unwrap().unwrap();
        });
        // Nobody is there any more, which is no matter.
        tell_taken(target);
    }
}
