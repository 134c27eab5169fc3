//! A Firecracker process, which is one machine.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentkernel_containers::own_folder;
use agentkernel_firecracker::words::{PORT, READY};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::Child;
use agentkernel_sys::{signal, socket};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::api::{Api, ApiError};
use crate::arguments::BOOT_ARGUMENTS;
use crate::console::Console;
use crate::jail::Jail;
use crate::plan::{
    Action, BootSource, Disk, Drive, Entropy, Load, MachineConfiguration, Memory, Plan, Save,
    State, Vsock,
};

/// How long Firecracker may take to listen.
const START: Duration = Duration::from_secs(10);

/// How long a machine may take to boot: longer than any does, an emulated one included, and less than
/// whoever waits for the bridge's word on it has patience for.
const BOOT: Duration = Duration::from_secs(50);

/// How long a machine may take for a connection.
const CONNECT: Duration = Duration::from_secs(30);

/// What fails when that does.
const CONNECTING: &str = "can't connect to the machine";

/// The longest answer of one that was asked for a connection, in bytes.
pub const ANSWER: u64 = 32;

/// How long it is waited before the next try to connect to who is about to listen.
const BREATH: Duration = Duration::from_millis(1);

/// Its sockets, in its folder. Firecracker works there, so that a path of any length will do.
const API: &str = "api";
const VSOCK: &str = "vsock";

/// Where Firecracker saves one.
const GOLDEN: &str = "golden";

/// What a saved machine consists of.
pub const SAVED: [&str; 2] = ["state", "memory"];

/// The number of every machine for itself (vsock(7)): each is alone with its host.
const GUEST_CID: u32 = 3;

/// A machine. Dropping it ends it, and removes its folder.
pub struct Machine {
    child: Child,
    console: Console,
    folder: Folder,
    /// Where it can be saved, as Firecracker sees it.
    saved: Option<PathBuf>,
}

/// A folder for sockets, which goes with this.
struct Folder(PathBuf);

impl Folder {
    fn make() -> io::Result<Self> {
        let folder = Self(own_folder());
        DirBuilder::new().mode(0o700).create(&folder.0)?;
        Ok(folder)
    }
}

impl Folder {
    fn remove(&mut self) {
        // What could not be removed is swept later.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("{error}{console}")]
    Api { error: ApiError, console: String },
    #[error("the machine's root can't be made: {why}")]
    Unmade { why: String },
    #[error("the machine has ended{console}")]
    Ended { console: String },
    #[error("the machine did not {what} within {} s{console}", after.as_secs())]
    Slow { what: &'static str, after: Duration, console: String },
}

pub fn failed(what: &'static str) -> impl FnOnce(io::Error) -> MachineError {
    move |source| MachineError::Io { what, source }
}

impl Plan {
    /// Shows its disks, and returns them with the paths that Firecracker finds them at.
    fn show_disks(&self, jail: &mut Jail) -> io::Result<Vec<Disk>> {
        let mut disks = Vec::new();
        for (number, Disk { path, read_only }) in self.disks.iter().enumerate() {
            let name = format!("disk{number}");
            let path = match read_only {
                true => jail.show(path, &name)?,
                false => jail.show_to_write(path, &name)?,
            };
            disks.push(Disk { path, read_only: *read_only });
        }
        Ok(disks)
    }

    /// The same with all that it boots from.
    fn shown_in(&self, jail: &mut Jail) -> io::Result<Self> {
        let disks = self.show_disks(jail)?;
        let kernel = jail.show(&self.kernel, "kernel")?;
        let initrd = jail.show(&self.initrd, "initrd")?;
        Ok(Self { kernel, initrd, disks, ..self.clone() })
    }
}

impl Machine {
    /// Boots a machine, which listens for its host then.
    pub fn boot(plan: &Plan) -> Result<Self, MachineError> {
        Self::boot_within(plan, None, BOOT)
    }

    /// The same of one that is to be [saved](Self::save) in the folder `into`.
    pub fn boot_to_save(plan: &Plan, into: &Path) -> Result<Self, MachineError> {
        Self::boot_within(plan, Some(into), BOOT)
    }

    fn boot_within(
        plan: &Plan,
        saved: Option<&Path>,
        most: Duration,
    ) -> Result<Self, MachineError> {
        let what = "can't show Firecracker what its machine is made of";
        let folder = Folder::make().map_err(failed("can't make a folder for the machine"))?;
        let ready = folder.0.join(format!("{VSOCK}_{READY}"));
        let ready = socket::listen(&ready).map_err(failed("can't listen for the machine"))?;
        let mut jail = Jail::new(plan.jail, &folder.0).map_err(failed(what))?;
        let inside = plan.shown_in(&mut jail).map_err(failed(what))?;
        let saved = saved.map(|folder| jail.show_to_write(folder, GOLDEN)).transpose();
        let saved = saved.map_err(failed(what))?;
        let mut machine = Self::start(jail, &plan.program, folder)?;
        machine.saved = saved;
        machine.configure(&inside)?;
        machine.wait(&ready, "boot", most)?;
        Ok(machine)
    }

    /// Writes all of the machine to where it is to be saved, as the files [`SAVED`]. It goes on no more.
    pub fn save(self) -> Result<(), MachineError> {
        let Some(into) = &self.saved else {
            return Err(failed("can't save the machine")(io::ErrorKind::NotFound.into()));
        };
        let [state, memory] = SAVED.map(|name| into.join(name));
        let save = Save {
            // What nobody has written to since the start is a hole in the file.
            snapshot_type: "Diff",
            snapshot_path: &state,
            mem_file_path: &memory,
        };
        let mut api = self.api()?;
        let pause = State { state: "Paused" };
        let saved = api
            .patch("/vm", &pause, "stop the machine")
            .and_then(|()| api.put("/snapshot/create", &save, "save the machine"));
        saved.map_err(|error| self.told(error))
    }

    /// A machine that goes on where one of the same `plan` was stopped that is saved in the folder `from`.
    /// They have the same disks, and none of them writes to one.
    pub fn restore(plan: &Plan, from: &Path) -> Result<Self, MachineError> {
        let what = "can't show Firecracker what its machine is made of";
        let folder = Folder::make().map_err(failed("can't make a folder for the machine"))?;
        let mut jail = Jail::new(plan.jail, &folder.0).map_err(failed(what))?;
        plan.show_disks(&mut jail).map_err(failed(what))?;
        let [state, memory] = SAVED.map(|name| jail.show(&from.join(name), name));
        let state = state.map_err(failed(what))?;
        let memory = memory.map_err(failed(what))?;
        let machine = Self::start(jail, &plan.program, folder)?;
        let load = Load {
            snapshot_path: &state,
            // It is mapped, and what the machine writes to it is its own.
            mem_backend: Memory { backend_type: "File", backend_path: &memory },
            resume_vm: true,
        };
        let loaded = machine.api()?.put("/snapshot/load", &load, "restore the machine");
        loaded.map_err(|error| machine.told(error))?;
        Ok(machine)
    }

    /// Starts Firecracker, which has no machine yet.
    fn start(jail: Jail, program: &Path, folder: Folder) -> Result<Self, MachineError> {
        let what = "can't start Firecracker";
        let comings = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let comings = comings.map_err(|errno| failed(what)(errno.into()))?;
        inotify::add_watch(&comings, &folder.0, WatchFlags::CREATE)
            .map_err(|errno| failed(what)(errno.into()))?;
        let (read, written) = descriptor::pipe().map_err(failed(what))?;
        let arguments = ["--api-sock", API, "--level", "Error"];
        let child = jail.start(program, &arguments, written).map_err(failed(what))?;
        let machine = Self { child, console: Console::keep(read), folder, saved: None };
        while !machine.folder.0.join(API).exists() {
            machine.wait(&comings, "start", START)?;
            // Only that something has come counts.
            let _ = descriptor::read(comings.as_fd(), &mut [0; 4096]);
        }
        Ok(machine)
    }

    /// Connects to its API, on which it may not listen yet although the socket is there.
    fn api(&self) -> Result<Api, MachineError> {
        let until = Instant::now() + START;
        loop {
            match Api::connect(&self.folder.0.join(API)) {
                Err(ApiError::Connect(error))
                    if error.kind() == io::ErrorKind::ConnectionRefused
                        && Instant::now() < until =>
                {
                    self.is_dead(BREATH)?;
                }
                done => return done.map_err(|error| self.told(error)),
            }
        }
    }

    fn configure(&self, plan: &Plan) -> Result<(), MachineError> {
        let mut api = self.api()?;
        let Plan { kernel, initrd, processors, memory, golden, .. } = plan;
        let machine = MachineConfiguration {
            vcpu_count: *processors,
            mem_size_mib: *memory,
            track_dirty_pages: golden.is_some(),
        };
        let source = BootSource {
            kernel_image_path: kernel,
            initrd_path: initrd,
            boot_args: BOOT_ARGUMENTS,
        };
        let vsock = Vsock { guest_cid: GUEST_CID, uds_path: VSOCK };
        let mut ask = || {
            api.put("/machine-config", &machine, "make a machine")?;
            api.put("/boot-source", &source, "take the kernel")?;
            for (number, disk) in plan.disks.iter().enumerate() {
                let drive = Drive {
                    drive_id: &format!("disk{number}"),
                    path_on_host: &disk.path,
                    is_root_device: false,
                    is_read_only: disk.read_only,
                };
                api.put(&format!("/drives/disk{number}"), &drive, "take a disk")?;
            }
            api.put("/vsock", &vsock, "make the machine's socket")?;
            api.put("/entropy", &Entropy {}, "make the machine's random numbers")?;
            api.put("/actions", &Action { action_type: "InstanceStart" }, "start the machine")
        };
        ask().map_err(|error| self.told(error))
    }

    /// Asks for a connection to the machine, which listens, and takes connections in this order. Its answer
    /// comes by that: a line of at most [`ANSWER`] bytes.
    pub fn ask_to_connect(&self) -> Result<OwnedFd, MachineError> {
        self.ask_saying(&[])
    }

    /// The same, and what is to be heard by the machine first, which comes with the connection.
    fn ask_saying(&self, first: &[u8]) -> Result<OwnedFd, MachineError> {
        let connection = socket::connect(&self.folder.0.join(VSOCK), CONNECT);
        let connection = connection.map_err(failed(CONNECTING))?;
        let words = [format!("CONNECT {PORT}\n").as_bytes(), first].concat();
        socket::send(connection.as_fd(), &words, &[]).map_err(failed(CONNECTING))?;
        Ok(connection)
    }

    /// Connects to the machine.
    pub fn connect(&self) -> Result<OwnedFd, MachineError> {
        self.connect_saying(&[])
    }

    /// The same, and says this to it, which may say nothing itself until it has another connection.
    pub fn connect_saying(&self, first: &[u8]) -> Result<OwnedFd, MachineError> {
        let connection = self.ask_saying(first)?;
        // `OK PORT` in a line, and not a byte comes after it.
        let (mut answer, mut taken) = ([0; ANSWER as usize], 0);
        while !answer[..taken].ends_with(b"\n") && taken < answer.len() {
            self.wait(&connection, "take a connection", CONNECT)?;
            match descriptor::read(connection.as_fd(), &mut answer[taken..]) {
                Ok(0) => return Err(failed(CONNECTING)(io::ErrorKind::ConnectionRefused.into())),
                read => taken += read.map_err(failed(CONNECTING))?,
            }
        }
        let mut lines = answer[..taken].split(|byte| *byte == b'\n');
        match (lines.next(), lines.next(), lines.next()) {
            (Some([b'O', b'K', b' ', ..]), Some([]), None) => Ok(connection),
            _ => Err(failed(CONNECTING)(io::ErrorKind::InvalidData.into())),
        }
    }

    pub fn console(&self) -> Console {
        self.console.clone()
    }

    /// A descriptor that can be read when it has ended.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// Has nobody come to it any more. What is connected stays so, and of what is on disk nothing is
    /// left, however this process ends.
    pub fn close_doors(&mut self) {
        self.folder.remove();
    }

    /// Waits until `fd` can be read, which it says that it does `what` by.
    fn wait(&self, fd: &OwnedFd, what: &'static str, most: Duration) -> Result<(), MachineError> {
        let mut interests = [Interest::readable(fd.as_fd()), Interest::readable(self.process())];
        let ready = descriptor::poll(&mut interests, Some(most)).map_err(failed("can't wait"))?;
        let [come, dead] = &interests;
        match (ready, come.is_ready(), dead.is_ready()) {
            (true, true, _) => Ok(()),
            (true, false, _) => Err(MachineError::Ended { console: self.console.last_words() }),
            (false, ..) => {
                let console = self.console.last();
                Err(MachineError::Slow { what, after: most, console })
            }
        }
    }

    /// Whether it dies within `most`.
    fn is_dead(&self, most: Duration) -> Result<(), MachineError> {
        let mut dead = [Interest::readable(self.process())];
        match descriptor::poll(&mut dead, Some(most)).map_err(failed("can't wait"))? {
            true => Err(MachineError::Ended { console: self.console.last_words() }),
            false => Ok(()),
        }
    }

    fn told(&self, error: ApiError) -> MachineError {
        let console = match &error {
            // It has said no more than that.
            ApiError::Refused { .. } => String::new(),
            _ => self.console.last(),
        };
        MachineError::Api { error, console }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended of itself.
        let _ = self.child.signal(signal::SIGKILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests;
