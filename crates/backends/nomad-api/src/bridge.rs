//! The process that has an allocation: it registers the job, is at this end of the stream, and removes
//! the job at the end, whatever has become of whoever wanted it.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::thread;
use std::time::Duration;

use agentkernel_core::BootError;
use agentkernel_far::session::Key;
use agentkernel_far::{Stream, carry, told};
use agentkernel_sys::descriptor::Interest;
use agentkernel_sys::signal::{self, Signals};
use agentkernel_sys::{descriptor, process};
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::client::{Answer, CLEAR, Client, REMOVE, WATCH, quoted};
use crate::error::{ApiError, failed};
use crate::held::Held;
use crate::job::MAKER;
use crate::pump::Pump;
use crate::settings::Settings;
use crate::watch;
use crate::words::Allocation;

/// This program, as a bridge.
pub fn program() -> Command {
    let mut program = Command::new("/proc/self/exe");
    // Whose it is, for people who look at the list of processes.
    program.arg0("agentkerneld").args(["bridge", "nomad"]).current_dir("/");
    program
}

/// How long it may take to remove a job.
const REMOVAL: Duration = Duration::from_secs(20);

/// What is to be booted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub settings: Settings,
    pub id: String,
    pub job: Value,
    pub image: String,
    /// The agent's program, if it is to be sent.
    pub program: Option<PathBuf>,
    /// What the agent wants to hear.
    pub key: [u8; 16],
    /// Whether the job was made before, and has the sandbox's files.
    pub made: bool,
    /// If it outlasts this process: the file that is there as long as anybody wants it.
    pub note: Option<PathBuf>,
}

/// A job that is there.
struct Made {
    settings: Settings,
    id: String,
    note: Option<PathBuf>,
}

/// Serves as a bridge, to the end of the place. SIGTERM ends that.
pub fn serve() -> io::Result<()> {
    // A terminal's signals are not for those who outlive it.
    process::new_session()?;
    let signals = Signals::receive(&[signal::SIGTERM])?;
    let mut made = None;
    let carried = carry(|plan| {
        let mut plan: Plan = serde_json::from_str(plan).map_err(|error| error.to_string())?;
        // Whoever finds the job can tell whether this process lives.
        plan.job["Job"]["Meta"][MAKER] = agentkernel_containers::own_name().into();
        let (settings, id, note) = (plan.settings.clone(), plan.id.clone(), plan.note.clone());
        made = Some(Made { settings, id, note });
        let was_there = plan.made;
        open(plan, &signals).map_err(|error| {
            // Nothing is left of it when somebody hears of the error.
            made.take().iter().filter(|_| !was_there).for_each(Made::remove);
            told(error)
        })
    });
    if let Some(made) = made.filter(|made| !made.is_wanted()) {
        // Nobody may be waiting for that any more.
        made.remove();
    }
    carried
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Boots the place, and opens the stream into it.
fn open(plan: Plan, signals: &Signals) -> Result<Stream, BootError> {
    let broken = |source| failed("can't make a way for the sandbox's stream", source);
    let program = plan.program.as_ref().map(std::fs::read).transpose();
    let program = program.map_err(|source| failed("can't read the agent's program", source))?;
    let runtime = runtime().map_err(broken)?;
    let mut client = Client::new(plan.settings.clone());
    let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
    let quit = own(signals.as_fd()).and_then(|signals| closing(vec![signals])).map_err(broken)?;
    // A word of the booter's, or its end: it waits for nothing but the stream.
    let control = own(io::stdin().as_fd()).and_then(|control| closing(vec![control]));
    let control = control.map_err(broken)?;
    let opened = async {
        let allocation = match plan.made {
            true => watch::find(&mut client, &plan.id, &plan.image).await?,
            false => watch::run(&mut client, &plan.job, &plan.id, &plan.image).await?,
        };
        let (allocation, kept) = (allocation.id, plan.note.is_some());
        let mut held = Held { client, allocation, program, kept };
        let socket = held.exec(plan.made).await?;
        Ok((held, socket))
    };
    let (held, socket) = runtime.block_on(async {
        let (told, left) = (pin!(ready(&quit)), pin!(ready(&control)));
        match select(pin!(opened), select(told, left)).await {
            Either::Left((opened, _)) => opened,
            Either::Right(_) => {
                Err(failed("the sandbox is not wanted any more", io::ErrorKind::Interrupted.into()))
            }
        }
    })?;
    // From here on words of the booter's are for others.
    control.shutdown(Shutdown::Both).map_err(broken)?;
    let (ours, theirs) = StdUnixStream::pair().map_err(broken)?;
    let (errors, errors_to) = descriptor::pipe().map_err(broken)?;
    let input = OwnedFd::from(theirs.try_clone().map_err(broken)?);
    let session = agentkernel_far::random().map_err(broken)?;
    let key = Key { place: plan.key, session };
    let pump = move || {
        runtime.block_on(async {
            // An end is an end, for whatever reason.
            if let Ok(pump) = Pump::new(held, key, ours, File::from(errors_to), quit) {
                pump.carry(socket).await;
            }
        });
    };
    thread::Builder::new().name("pump".into()).spawn(pump).map_err(broken)?;
    Ok(Stream { input, output: theirs.into(), errors: Some(errors) })
}

/// A socket whose other end is closed once one of these can be read, or this is.
fn closing(all: Vec<OwnedFd>) -> io::Result<StdUnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let wait = move || {
        let all = all.iter().map(|fd| Interest::readable(fd.as_fd()));
        let mut all: Vec<_> = all.chain([Interest::readable(theirs.as_fd())]).collect();
        let _ = descriptor::poll(&mut all, None);
    };
    thread::Builder::new().name("watch".into()).spawn(wait)?;
    Ok(ours)
}

/// Waits until that can be read.
async fn ready(watched: &StdUnixStream) -> io::Result<()> {
    let watched = watched.try_clone()?;
    watched.set_nonblocking(true)?;
    UnixStream::from_std(watched)?.readable().await
}

impl Made {
    /// Whether it is kept, and there still is who wants it.
    fn is_wanted(&self) -> bool {
        self.note.as_ref().is_some_and(|note| note.exists())
    }

    /// Stops the job, and has nothing remember it. What can't be removed now is swept later.
    fn remove(&self) {
        let Ok(runtime) = runtime() else { return };
        let mut client = Client::new(self.settings.clone());
        let _ = runtime.block_on(async { timeout(REMOVAL, remove(&mut client, &self.id)).await });
    }
}

/// Stops a job, and clears away what it has left: the folders of its allocations on their nodes, and what
/// is mounted there, which would else stay for hours.
pub async fn remove(client: &mut Client, id: &str) -> Result<(), ApiError> {
    let path = format!("/v1/job/{}", quoted(id));
    match client.delete::<Value>(&path, &[("purge", "true")], REMOVE).await {
        Err(error) if !error.is_absence() => return Err(error),
        _ => {}
    }
    // They are known by its name when it is not. One that is placed only now is told to stop by that.
    let found: Answer<Vec<Allocation>> =
        client.get(&format!("{path}/allocations"), &[("all", "true")], WATCH).await?;
    for allocation in found.body {
        watch::await_end(client, &allocation.id).await?;
        let path = format!("/v1/client/allocation/{}/gc", quoted(&allocation.id));
        match client.get::<Value>(&path, &[], CLEAR).await {
            // Somebody else has done it.
            Err(error) if !error.is_absence() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
