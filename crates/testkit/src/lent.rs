//! Root's Docker, lent to an ordinary user as a member of its socket's group has it: by a socket that is
//! root's and the group's, and leads to the engine's own.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, thread};

use agentkernel_core::Capability;

use crate::Subject;

/// The variable that names the socket of a Docker that the suites may use.
const ENGINE: &str = "TESTKIT_DOCKER";

/// The socket's name, beside the program that is tested.
const SOCKET: &str = "docker.sock";

/// What places of such an engine's can't do.
pub(crate) const LACKING: [Capability; 1] = [Capability::MountCopyOnWrite];

/// Root's own socket, if there is one for the suites.
pub(crate) fn engine() -> Option<PathBuf> {
    std::env::var_os(ENGINE).map(PathBuf::from)
}

/// Where it is lent to whoever uses `program`, if it is.
pub(crate) fn socket_for(program: &Path) -> PathBuf {
    program.with_file_name(SOCKET)
}

/// Whether a subject is one to whom it is lent.
pub(crate) fn is_lent_to(subject: &Subject) -> bool {
    subject.backend == "docker"
        && !subject.caller.is_root()
        && socket_for(&subject.program).exists()
}

/// Lends the engine at `engine` to `group` by a socket at `path`, for as long as the calling process
/// lives. Whoever starts a container waits meanwhile for `before_start`.
pub(crate) fn lend(
    engine: PathBuf,
    path: &Path,
    group: u32,
    before_start: impl Fn() + Clone + Send + 'static,
) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    chown(path, Some(0), Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            pass_on(client.into(), engine.clone(), before_start.clone());
        }
    });
    Ok(())
}

/// Passes on what a client and the engine at `socket` say to each other, beside the caller.
pub(crate) fn pass_on(client: OwnedFd, socket: PathBuf, before_start: impl Fn() + Send + 'static) {
    // Who can't be passed on sees the end.
    thread::spawn(move || {
        // Of whatever family: it is only read, written and shut.
        let client = UnixStream::from(client);
        let engine = UnixStream::connect(socket)?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = io::copy(&mut &engine, &mut &client);
                let _ = client.shutdown(Shutdown::Write);
            });
            let _ = ask(&client, &engine, before_start);
            let _ = engine.shutdown(Shutdown::Write);
        });
        io::Result::Ok(())
    });
}

/// Passes on what the client asks for.
fn ask(
    mut client: &UnixStream,
    mut engine: &UnixStream,
    before_start: impl Fn(),
) -> io::Result<()> {
    const START: &[u8] = b"/start HTTP/";
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = client.read(&mut bytes)?;
        // A request begins a piece, and its first line is short. No more is looked at: a whole program
        // may pass through here.
        let first = &bytes[..read.min(256)];
        if first.starts_with(b"POST ") && first.windows(START.len()).any(|part| part == START) {
            before_start();
        }
        match read {
            0 => return Ok(()),
            read => engine.write_all(&bytes[..read])?,
        }
    }
}
