//! An engine without a daemon, served while it is needed.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agentkernel_containers::{Product, own_folder};
use agentkernel_core::BootError;
use agentkernel_sys::descriptor::{self, Interest};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// How long it may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it goes on when nobody is connected, in seconds: for when we are killed.
const LINGER: &str = "5";

/// The process, which ends with this.
pub struct Service {
    child: Child,
    folder: PathBuf,
    socket: PathBuf,
}

impl Service {
    pub fn start(product: &Product, program: &str) -> Result<Self, BootError> {
        let failed = |what: &str, source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => BootError::Unavailable {
                why: format!(
                    "{} is not installed: there is no {program} on the PATH",
                    product.title
                ),
                fix: product.install.into(),
            },
            _ => BootError::Failed { what: format!("can't {what} {}", product.title), source },
        };
        let folder = own_folder();
        DirBuilder::new().mode(0o700).create(&folder).map_err(|e| failed("make room for", e))?;
        let socket = folder.join("engine");
        let watch = inotify::init(CreateFlags::CLOEXEC).and_then(|watch| {
            inotify::add_watch(&watch, &folder, WatchFlags::CREATE)?;
            Ok(watch)
        });
        let watch = watch.map_err(|errno| failed("wait for", errno.into()))?;
        let spawned = Command::new(program)
            .args(["system", "service", "--time", LINGER])
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = spawned.map_err(|error| {
            let _ = fs::remove_dir(&folder);
            failed("start", error)
        })?;
        let mut service = Self { child, folder, socket };
        service.await_listener(&watch).map_err(|error| failed("start", error))?;
        Ok(service)
    }

    fn await_listener(&mut self, watch: &impl AsFd) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            // The socket is there a moment before somebody listens.
            let mut made = [Interest::readable(watch.as_fd())];
            let pause = if self.socket.exists() { 1 } else { 50 };
            if descriptor::poll(&mut made, Some(Duration::from_millis(pause)))?
                && !self.socket.exists()
            {
                descriptor::read(watch.as_fd(), &mut [0; 4096])?;
            }
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Containers don't need it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
