//! The agent of such a place: it hears orders on links, and has the engine carry them out.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentkernel_core::Attachment;
use agentkernel_protocol::{CommandId, FromAgent, LongDecoder, Role, Stage, Start, ToAgent};
use agentkernel_sys::{process, signal, socket};
use bollard::container::AttachContainerResults;
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::command::Command;
use super::engine::Engine;
use super::link::{Client, Link, answer};
use super::target::Order;

/// The link that the place was made with.
const FIRST_LINK: u32 = 0;

/// More descriptors than any message carries need not wait for theirs.
const MOST_WAITING: usize = 2 * socket::MAX_DESCRIPTORS;

/// How many orders to one command may wait for it.
const ORDERS: usize = 16;

/// How long it is waited between two looks whether something has changed that nobody tells.
const BREATH: Duration = Duration::from_millis(100);

/// Numbers that Linux has had on every architecture for ever; std names only their kinds.
mod errno {
    pub(super) const BUSY: i32 = 16;
    pub(super) const NOT_SUPPORTED: i32 = 95;
}

/// How long the place lives.
#[derive(Debug, Default)]
pub struct Term {
    pub ttl: Option<Duration>,
    pub idle: Option<Duration>,
}

/// The agent.
pub struct Agent {
    pub engine: Arc<Engine>,
    term: Term,
    began: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    links: usize,
    commands: usize,
    /// When the last command ended or the last client left, by [`process::clock`].
    last_used: Duration,
    /// Whoever has run something.
    users: BTreeSet<String>,
    /// Whether it goes on without the link that it was made with.
    released: bool,
    paused: bool,
    /// The link for whose sake everything inside is stopped.
    holder: Option<u32>,
    stopping: bool,
    /// Whether all in it is killed, by somebody who ends it then.
    closing: bool,
    over: bool,
    fate: Option<&'static str>,
}

impl State {
    fn rests(&self) -> bool {
        self.paused || self.holder.is_some()
    }
}

impl Agent {
    /// Serves links until the place has come to its end, and all in it is dead. Returns why it has
    /// ended, if that was of its own accord.
    pub async fn serve(
        engine: Arc<Engine>,
        term: Term,
        first: OwnedFd,
        mut clients: mpsc::UnboundedReceiver<OwnedFd>,
        held: AttachContainerResults,
    ) -> io::Result<Option<&'static str>> {
        let began = process::clock();
        let state = Mutex::new(State { last_used: began, ..State::default() });
        let agent = Arc::new(Self { engine, term, began, state, changed: Notify::new() });
        // For as long as it is open the container goes on.
        let AttachContainerResults { mut output, input: _input } = held;
        let watching = Arc::clone(&agent);
        tokio::spawn(async move {
            while output.next().await.is_some_and(|piece| piece.is_ok()) {}
            // Whoever has killed it knows what there is left to say.
            if !watching.state().closing {
                watching.end(None);
            }
        });
        agent.greet(FIRST_LINK, first);
        let greeting = Arc::clone(&agent);
        tokio::spawn(async move {
            let mut id = FIRST_LINK;
            while let Some(client) = clients.recv().await {
                id += 1;
                greeting.greet(id, client);
            }
            // The stream has ended, and nobody can come any more.
            greeting.end(None);
        });
        let fate = agent.keep_time().await;
        agent.engine.kill().await?;
        Ok(fate)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the place end.
    pub fn end(&self, fate: Option<&'static str>) {
        let mut state = self.state();
        if !state.over {
            state.over = true;
            state.fate = fate;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the end of the place, which may be that its time is up.
    async fn keep_time(&self) -> Option<&'static str> {
        loop {
            let now = process::clock();
            let due = {
                let state = self.state();
                if state.over {
                    return state.fate;
                }
                let ttl = self.term.ttl.map(|ttl| (self.began + ttl, "ttl"));
                let idle = self.term.idle.filter(|_| state.links == 0 && state.commands == 0);
                let idle = idle.map(|idle| (state.last_used + idle, "idle"));
                ttl.into_iter().chain(idle).min()
            };
            match due {
                Some((at, fate)) if at <= now => self.end(Some(fate)),
                Some((at, _)) => drop(timeout(at - now, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes a new client.
    fn greet(self: &Arc<Self>, id: u32, client: OwnedFd) {
        let Ok(link) = Link::greet(id, client) else { return };
        let link = Arc::new(link);
        self.state().links += 1;
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            // One that talks nonsense is lost, and what it has started for itself killed with it.
            let _ = agent.hear(&link).await;
            link.close();
            agent.take_leave(id).await;
        });
    }

    async fn take_leave(&self, id: u32) {
        let (goes_on, over) = {
            let mut state = self.state();
            state.links -= 1;
            state.last_used = process::clock();
            let held = state.holder.take_if(|holder| *holder == id).is_some();
            (held && !state.paused, id == FIRST_LINK && !state.released)
        };
        if goes_on {
            let _ = self.engine.pause(false).await;
        }
        match over {
            true => self.end(None),
            false => self.changed.notify_one(),
        }
    }

    /// Hears a client to its end.
    async fn hear(self: &Arc<Self>, link: &Arc<Link>) -> io::Result<()> {
        let mut decoder = LongDecoder::default();
        let mut client = Client::default();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let (read, descriptors) = link.hear(&mut buffer).await?;
            client.waiting.extend(descriptors);
            if read == 0 || client.waiting.len() > MOST_WAITING {
                return Ok(());
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let order = decoder.next(&mut rest, ToAgent::parse).map_err(io::Error::other)?;
                if let Some(order) = order {
                    self.obey(link, &mut client, order).await?;
                }
            }
        }
    }

    async fn obey(
        self: &Arc<Self>,
        link: &Arc<Link>,
        client: &mut Client,
        order: ToAgent,
    ) -> io::Result<()> {
        match order {
            ToAgent::Signal { command, signal } => {
                client.tell(command, Order::Signal(signal)).await;
            }
            ToAgent::Kill { command } => client.tell(command, Order::Kill).await,
            ToAgent::Start { command, start } => self.start(link, client, command, *start)?,
            ToAgent::Release { command } => {
                self.state().released = true;
                link.say(FromAgent::Done { command }, None);
            }
            // Nothing runs in the background.
            ToAgent::List { command } => link.say(FromAgent::Done { command }, None),
            ToAgent::Pause { command } => {
                let done = self.pause(true).await;
                answer(link, command, done);
            }
            ToAgent::Unpause { command } => {
                let done = self.pause(false).await;
                answer(link, command, done);
            }
            ToAgent::Hold { command } => {
                let done = self.hold(link.id).await;
                answer(link, command, done);
            }
            ToAgent::All { command, signal } => {
                let done = self.signal_all(signal).await;
                answer(link, command, done);
            }
            ToAgent::Stop { command, grace } => {
                self.stop(grace).await;
                // Whoever hears that it is done ends the bridge, and what is left with it, but later. What
                // does not die now dies then.
                let _ = self.close().await;
                link.say(FromAgent::Done { command }, None);
                self.end(Some("stopped"));
            }
            ToAgent::Attach {
                command,
                attachment: Attachment::User { .. } | Attachment::Mount { .. },
            }
            | ToAgent::Root { command }
            | ToAgent::UserNamespace { command }
            | ToAgent::Background { command, .. }
            | ToAgent::Carry { command, .. } => {
                link.say(FromAgent::Failed { command, errno: errno::NOT_SUPPORTED }, None);
            }
        }
        Ok(())
    }

    /// Starts a command, unless its number is taken, or nothing may start now.
    fn start(
        self: &Arc<Self>,
        link: &Arc<Link>,
        client: &mut Client,
        command: CommandId,
        start: Start,
    ) -> io::Result<()> {
        let streams = match start.terminal {
            Some(_) => Vec::new(),
            None if client.waiting.len() < 3 => return Err(io::ErrorKind::InvalidData.into()),
            None => client.waiting.drain(..3).collect(),
        };
        if matches!(start.role, Role::Background { .. }) {
            let (stage, errno) = (Stage::Place, errno::NOT_SUPPORTED);
            link.say(FromAgent::NotStarted { command, stage, errno }, None);
            return Ok(());
        }
        client.commands.retain(|_, orders| !orders.is_closed());
        let user = format!("{}:{}", start.process.uid, start.process.gid);
        {
            let mut state = self.state();
            if client.commands.contains_key(&command) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if state.rests() || state.stopping || state.closing || state.over {
                let (stage, errno) = (Stage::Place, errno::BUSY);
                link.say(FromAgent::NotStarted { command, stage, errno }, None);
                return Ok(());
            }
            state.commands += 1;
            state.users.insert(user.clone());
        }
        let (orders, heard) = mpsc::channel(ORDERS);
        client.commands.insert(command, orders);
        let running = Command { agent: Arc::clone(self), link: Arc::clone(link), command, user };
        tokio::spawn(async move {
            running.run(start, streams, heard).await;
            let mut state = running.agent.state();
            state.commands -= 1;
            state.last_used = process::clock();
            drop(state);
            running.agent.changed.notify_one();
        });
        Ok(())
    }

    /// Kills whatever is left, for somebody who ends the place then.
    pub async fn close(&self) -> io::Result<()> {
        self.state().closing = true;
        self.engine.kill().await
    }

    async fn pause(&self, paused: bool) -> io::Result<()> {
        let changes = {
            let state = self.state();
            state.paused != paused && state.holder.is_none()
        };
        if changes {
            self.engine.pause(paused).await?;
        }
        self.state().paused = paused;
        Ok(())
    }

    /// Stops everything inside from running, until the link closes.
    async fn hold(&self, link: u32) -> io::Result<()> {
        let held = {
            let mut state = self.state();
            let rests = state.rests();
            if state.holder.is_some() {
                return Err(io::Error::from_raw_os_error(errno::BUSY));
            }
            state.holder = Some(link);
            rests
        };
        match held {
            true => Ok(()),
            false => self.engine.pause(true).await.inspect_err(|_| self.state().holder = None),
        }
    }

    /// Waits until what runs is not stopped, since nothing reaches it before.
    pub async fn await_motion(&self) {
        loop {
            if !self.state().rests() {
                return;
            }
            sleep(BREATH).await;
        }
    }

    /// Sends a signal to everything inside that is anybody's who has run something.
    async fn signal_all(&self, signal: u8) -> io::Result<()> {
        let users = self.state().users.clone();
        for user in users {
            self.engine.signal(&user, signal, -1).await?;
        }
        Ok(())
    }

    /// Asks everything inside to end, and waits until it has, no longer than `grace`.
    async fn stop(&self, grace: Duration) {
        self.state().stopping = true;
        let asked = async {
            let _ = self.pause(false).await;
            // It is killed in any case.
            let _ = self.signal_all(signal::SIGTERM as u8).await;
            while self.engine.count().await.is_ok_and(|count| count > 0) {
                sleep(BREATH).await;
            }
        };
        let _ = timeout(grace, asked).await;
    }
}
