//! One command.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use agentkernel_mux::SizeWatch;
use agentkernel_protocol::{CommandId, FromAgent, Role, Stage, Start, Status};
use agentkernel_sys::terminal::{self, RawMode};
use agentkernel_sys::{process, signal};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::fs::fstat;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf, split};
use tokio::net::unix::pipe::Sender;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::agent::Agent;
use super::engine::Exec;
use super::link::Link;
use super::script::{self, Mode};
use super::stream::{Output, reading, relay, writing};
use super::target::{Order, Sent, Target};

/// How long a place outlasts its only command, for a client that does not take leave.
const LONGEST_LEAVE: Duration = Duration::from_secs(1);

/// EIO: what the engine says instead of that line has no number.
const NO_WORD: i32 = 5;

/// Whose it is.
pub struct Command {
    pub agent: Arc<Agent>,
    pub link: Arc<Link>,
    pub command: CommandId,
    /// `UID:GID`.
    pub user: String,
}

/// Why nothing more can be told.
enum Failure {
    NotStarted(Stage, i32),
    /// It may have started.
    Lost,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// Where its output goes.
struct Outputs {
    output: Option<Sender>,
    errors: Option<Sender>,
}

impl Command {
    /// Runs it to its end, and tells of that.
    pub async fn run(&self, start: Start, streams: Vec<OwnedFd>, orders: mpsc::Receiver<Order>) {
        let command = self.command;
        match self.try_run(start, streams, orders).await {
            Ok(()) => {}
            Err(Failure::NotStarted(stage, errno)) => {
                self.link.say(FromAgent::NotStarted { command, stage, errno }, None);
            }
            Err(Failure::Lost) => self.link.close(),
        }
    }

    async fn try_run(
        &self,
        start: Start,
        streams: Vec<OwnedFd>,
        orders: mpsc::Receiver<Order>,
    ) -> Result<(), Failure> {
        let Start { process, terminal: size, role } = start;
        let mode = match streams.as_slice() {
            [_, output, errors] if is_same(output, errors) => Mode::Shared,
            [_, _, _] => Mode::Apart,
            _ => Mode::Terminal,
        };
        let refused = |(stage, errno)| Failure::NotStarted(stage, errno);
        let words = script::start(&process, mode).map_err(refused)?;
        let engine = &self.agent.engine;
        let exec = Exec { words, user: self.user.clone(), terminal: size.is_some() };
        let not_started = |_| Failure::NotStarted(Stage::Place, NO_WORD);
        let (exec, stream) = engine.start(exec).await.map_err(not_started)?;
        let (from, mut to) = split(stream);
        let mut output = Output::new(from, size.is_some());
        let pid = told(&output.line().await.map_err(not_started)?)?;
        if let Some(size) = size {
            engine.resize(&exec, size).await?;
            to.write_all(b"\n").await?;
            to.flush().await?;
            // Its echo.
            output.line().await?;
        }
        let mut beside = JoinSet::new();
        let sent = Arc::new(Sent::default());
        let agent = Arc::clone(&self.agent);
        let target = Target { agent, user: self.user.clone(), pid, sent: Arc::clone(&sent) };
        beside.spawn(target.clone().obey(orders));
        let mut outputs = match size {
            Some(size) => self.open_terminal(size, &exec, &target, to, &mut beside)?,
            None => {
                let mut streams = streams.into_iter();
                let input = streams.next().map(reading).transpose()?;
                let mut outputs = streams.map(writing);
                let (output, errors) = (outputs.next().transpose()?, outputs.next().transpose()?);
                beside.spawn(async move {
                    if let Some(mut input) = input {
                        // Whoever does not read any more has ended.
                        let _ = relay(&mut input, &mut to).await;
                        let _ = to.shutdown().await;
                    }
                });
                Outputs { output, errors }
            }
        };
        let command = self.command;
        self.link.say(FromAgent::Started { command, at: process::clock() }, None);
        if let Some(errors) = outputs.errors.as_mut().filter(|_| !output.early.is_empty()) {
            let _ = errors.write_all(&output.early).await;
        }
        let mut buffer = vec![0; 32 << 10];
        while let Some((is_error, bytes)) = output.next(&mut buffer).await? {
            let to = if is_error { &mut outputs.errors } else { &mut outputs.output };
            let written = match to {
                Some(to) => to.write_all(bytes).await,
                None => continue,
            };
            if written.is_err() {
                *to = None;
                // It would get this itself if it wrote to that pipe.
                let target = target.clone();
                beside.spawn(async move { target.signal_group(signal::SIGPIPE as u8).await });
            }
        }
        let code = engine.await_exec(&exec).await?.ok_or(Failure::Lost)?;
        beside.abort_all();
        if role == Role::Only {
            // It was all there was, so all there is goes with it.
            self.agent.close().await?;
        }
        let code = u8::try_from(code).unwrap_or(u8::MAX);
        // Else it may be a status of the command's own.
        let by = code.checked_sub(128).filter(|signal| sent.contains(*signal));
        let status = by.map_or(Status::Exited(code), Status::Signaled);
        let (at, none) = (process::clock(), Duration::ZERO);
        let (user, system, max_resident) = (none, none, 0);
        self.link.say(FromAgent::Ended { command, status, at, user, system, max_resident }, None);
        if role == Role::Only {
            sleep(LONGEST_LEAVE).await;
            self.agent.end(None);
        }
        Ok(())
    }

    /// Gives the client a terminal whose other side hands every byte through, to and from the one in
    /// the place.
    fn open_terminal(
        &self,
        size: (u16, u16),
        exec: &str,
        target: &Target,
        mut to: WriteHalf<TokioIo<Upgraded>>,
        beside: &mut JoinSet<()>,
    ) -> io::Result<Outputs> {
        let (controller, side) = terminal::open(c"/dev/ptmx")?;
        terminal::set_size(controller.as_fd(), size.0, size.1)?;
        // It is for good.
        std::mem::forget(RawMode::enter(side.as_fd())?);
        let sizes = SizeWatch::new(side.as_fd())?;
        let mut input = reading(side.try_clone()?)?;
        let output = Some(writing(side.try_clone()?)?);
        let target = target.clone();
        beside.spawn(async move {
            let _ = relay(&mut input, &mut to).await;
            // The client has hung up. What closes is kept until the end, or the engine would take it
            // for the end of the exec.
            target.signal_group(signal::SIGHUP as u8).await;
            std::future::pending::<()>().await;
            drop(to);
        });
        let (agent, exec) = (Arc::clone(&self.agent), exec.to_owned());
        beside.spawn(async move {
            // Without it the size stays as it is.
            let _ = follow_size(&agent, &exec, &side, &sizes, size).await;
        });
        self.link.say(FromAgent::Terminal { command: self.command }, Some(controller.as_fd()));
        Ok(Outputs { output, errors: None })
    }
}

/// Tells the engine each size that a terminal gets.
async fn follow_size(
    agent: &Agent,
    exec: &str,
    side: &OwnedFd,
    sizes: &SizeWatch,
    mut told: (u16, u16),
) -> io::Result<()> {
    let mut news = reading(sizes.as_fd().try_clone_to_owned()?)?;
    while news.read(&mut [0; 64]).await? > 0 {
        let size = terminal::size(side.as_fd())?;
        if size != told {
            told = size;
            agent.engine.resize(exec, size).await?;
        }
    }
    Ok(())
}

/// The number of a command's process, by its first line.
fn told(line: &str) -> Result<i64, Failure> {
    let numbers = line.trim().split_once(' ');
    let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match numbers {
        Some((0, pid @ 2..)) => Ok(pid),
        Some((stage, errno)) => {
            let stage = Stage::from_number(stage).unwrap_or(Stage::Place);
            Err(Failure::NotStarted(stage, i32::try_from(errno).unwrap_or(NO_WORD)))
        }
        None => Err(Failure::NotStarted(Stage::Place, NO_WORD)),
    }
}

/// Whether both are one pipe.
fn is_same(output: &OwnedFd, errors: &OwnedFd) -> bool {
    match (fstat(output), fstat(errors)) {
        (Ok(output), Ok(errors)) => {
            (output.st_dev, output.st_ino) == (errors.st_dev, errors.st_ino)
        }
        _ => false,
    }
}
