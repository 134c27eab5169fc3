//! The agent of a place that lives on its own: it serves many clients, and many commands at once.
//!
//! It runs in a process that has had one thread all its life, so unlike the agent of a single
//! command it may allocate. What it holds for a client is bounded: a frame, a few descriptors.

mod commands;
mod link;
mod log;
mod orders;
mod understudy;

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agentkernel_core::Attachment;
use agentkernel_protocol::{Carry, CommandId, FromAgent};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::signal::Signals;
use agentkernel_sys::{process, socket};

use crate::Rules;
use crate::agent::Agent;
use commands::Running;
use link::Link;
use log::Log;
use understudy::Understudy;

/// Adds something to the place; how is known only to whoever made it.
pub type Attach<'a> = dyn FnMut(Attachment, Option<OwnedFd>) -> io::Result<()> + 'a;

/// Carries files. How is known only to whoever made the place.
pub trait Carrier {
    /// What it needs for that.
    fn kept(&self) -> Option<BorrowedFd<'_>>;

    /// Carries files between the place and three streams (read, written, and reported to), in a process
    /// of its own, and returns that process's exit status.
    fn carry(&self, carry: &Carry, streams: [OwnedFd; 3]) -> u8;
}

/// What process 1 does besides: it brings clients in who are not on this kernel.
pub trait Beside {
    /// Waits as [`descriptor::poll`] does, and does meanwhile what there is to do of its own.
    /// Returns false when nobody can come any more, and nobody is there: the place ends then.
    fn poll(
        &mut self,
        interests: &mut [Interest<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<bool>;

    /// Those who have come since this was last asked.
    fn clients(&mut self) -> Vec<OwnedFd>;

    /// Whether others than the first client can come in.
    fn is_shared(&self) -> bool;

    /// Has all that was written be where it outlasts this kernel, if it is to.
    fn save(&mut self) {}

    /// The same, and has nobody write any more until it is thawed: it is about to be copied. Everything
    /// inside is stopped.
    fn freeze(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Lets who was frozen go on, if anybody was.
    fn thaw(&mut self) {}

    /// Says what is left to be said, now that the place ends.
    fn finish(&mut self);
}

/// How long the place lives, and who can come in.
#[derive(Debug, Default)]
pub struct Term {
    pub listener: Option<OwnedFd>,
    /// A file that is told why the place has ended of its own accord.
    pub fate: Option<OwnedFd>,
    pub ttl: Option<Duration>,
    pub idle: Option<Duration>,
}

/// More clients at once than any use needs.
const MOST_LINKS: usize = 256;

/// How long nobody is let in after that has failed, as for want of descriptors: who waits there
/// would wake the agent again at once.
const REST: Duration = Duration::from_millis(100);

/// The link that the place was made with.
const FIRST_LINK: u32 = 0;

/// Whether the place is in use because of this link: somebody has begun it, or speaks by it.
fn uses(link: &Link) -> bool {
    link.id == FIRST_LINK || link.spoke
}

/// An agent that has a process for the next command, and serves nobody yet.
pub struct ReadyAgent {
    agent: Agent,
    understudy: Option<Understudy>,
}

impl ReadyAgent {
    /// Takes over from the agent that has made the place ready.
    pub fn new(agent: Agent, rules: &Rules) -> Self {
        // Without one the next command takes longer, or says why it can't be started.
        Self { agent, understudy: Understudy::prepare(rules).ok() }
    }
}

/// The agent.
pub struct LiveAgent<'a> {
    deaths: Signals,
    term: Term,
    rules: &'a Rules,
    attach: &'a mut Attach<'a>,
    carrier: Option<&'a dyn Carrier>,
    beside: RefCell<Option<&'a mut dyn Beside>>,
    links: Vec<Link>,
    next_link: u32,
    commands: Vec<Running>,
    logs: Vec<Log>,
    /// Ready to become the next command.
    understudy: Option<Understudy>,
    /// The place's user namespace, for whoever may add to it.
    namespace: Option<OwnedFd>,
    /// Where background commands read from, opened before anybody could put something in its place.
    null: Option<OwnedFd>,
    /// Until when nobody is let in.
    rests_until: Option<Duration>,
    /// By [`process::clock`].
    began: Duration,
    /// When the last command ended or the last client left.
    last_used: Duration,
    /// Whether nothing has run here yet, so that nobody can have planted a link.
    pristine: bool,
    paused: bool,
    /// The link for whose sake everything inside is stopped, and nobody else is heard.
    holder: Option<u32>,
    /// Whether it goes on without the link that it was made with.
    released: bool,
    stopping: Option<Stopping>,
    over: bool,
}

/// The place is about to end, as somebody asked.
struct Stopping {
    by: Duration,
    link: u32,
    command: CommandId,
}

/// What has become ready in one turn.
struct Ready {
    deserted: bool,
    deaths: bool,
    listener: bool,
    links: Vec<bool>,
    starts: Vec<bool>,
    logs: Vec<[bool; 2]>,
}

impl<'a> LiveAgent<'a> {
    /// The agent of a place that begins now, under the rules that `ready` was made with.
    pub fn new(
        ready: ReadyAgent,
        rules: &'a Rules,
        term: Term,
        attach: &'a mut Attach<'a>,
    ) -> Self {
        let ReadyAgent { agent, understudy } = ready;
        let (link, deaths) = agent.into_parts();
        let began = process::clock();
        let null = term.listener.as_ref().and_then(|_| descriptor::open_read(c"/dev/null").ok());
        Self {
            deaths,
            term,
            rules,
            attach,
            carrier: None,
            beside: RefCell::default(),
            links: vec![Link::greet(FIRST_LINK, link)],
            next_link: FIRST_LINK + 1,
            commands: Vec::new(),
            logs: Vec::new(),
            understudy,
            namespace: None,
            null,
            rests_until: None,
            began,
            last_used: began,
            pristine: true,
            paused: false,
            holder: None,
            released: false,
            stopping: None,
            over: false,
        }
    }

    /// Hands out the place's user namespace.
    pub fn handing_out(self, namespace: Option<OwnedFd>) -> Self {
        Self { namespace, ..self }
    }

    /// Has files carried by `carrier`.
    pub fn carrying(self, carrier: &'a dyn Carrier) -> Self {
        Self { carrier: Some(carrier), ..self }
    }

    /// Has clients come in by `beside`, too.
    pub fn with(self, beside: &'a mut dyn Beside) -> Self {
        // The first background command finds it missing otherwise.
        let null = self.null.or_else(|| descriptor::open_read(c"/dev/null").ok());
        Self { beside: RefCell::new(Some(beside)), null, ..self }
    }

    /// Serves until the place has come to its end. Whatever still runs dies with the caller, who
    /// is process 1.
    pub fn serve(mut self) -> io::Result<()> {
        let served = self.serve_all();
        self.links.clear();
        if let Some(beside) = self.beside.get_mut() {
            beside.save();
            beside.finish();
        }
        served
    }

    fn serve_all(&mut self) -> io::Result<()> {
        while !self.over {
            let ready = self.wait()?;
            // A start is told before the end that may have come with it.
            self.hear_of_starts(&ready.starts);
            for (log, ready) in self.logs.iter_mut().zip(&ready.logs) {
                (0..2).filter(|which| ready[*which]).for_each(|which| log.carry(which));
            }
            if ready.deaths {
                self.bury()?;
            }
            self.logs.retain(|log| !log.is_over());
            self.hear_of_links(&ready.links);
            if ready.listener {
                self.admit();
            }
            let come = self.beside.get_mut().as_mut().map(|beside| beside.clients());
            come.into_iter().flatten().for_each(|client| self.greet(client));
            self.over |= ready.deserted;
            self.drop_links();
            self.keep_time();
            self.cast_understudy();
        }
        Ok(())
    }

    /// Waits as [`descriptor::poll`] does, whoever else is served meanwhile. Returns false when nobody
    /// can come any more.
    pub(super) fn poll(
        &self,
        interests: &mut [Interest<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        match self.beside.borrow_mut().as_deref_mut() {
            Some(beside) => beside.poll(interests, timeout),
            None => descriptor::poll(interests, timeout).map(|_| true),
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let listener = self.term.listener.as_ref().filter(|_| self.rests_until.is_none());
        let listener = listener.map(AsFd::as_fd);
        let mut interests = Vec::with_capacity(16);
        interests.push(Interest::readable(self.deaths.as_fd()));
        interests.push(listener.map_or(Interest::none(), Interest::readable));
        interests.extend(self.links.iter().map(|link| self.interest(link)));
        interests.extend(self.commands.iter().map(Running::interest));
        interests.extend(self.logs.iter().flat_map(Log::interests));
        let timeout = self.next_deadline().map(|at| at.saturating_sub(process::clock()));
        let deserted = !self.poll(&mut interests, timeout)?;
        let mut ready = interests.iter().map(Interest::is_ready);
        let mut next = || ready.next().unwrap_or(false);
        Ok(Ready {
            deserted,
            deaths: next(),
            listener: next(),
            links: self.links.iter().map(|_| next()).collect(),
            starts: self.commands.iter().map(|_| next()).collect(),
            logs: self.logs.iter().map(|_| [next(), next()]).collect(),
        })
    }

    fn interest<'l>(&self, link: &'l Link) -> Interest<'l> {
        match self.holder {
            Some(holder) if holder != link.id => Interest::none(),
            _ => Interest::readable(link.as_fd()),
        }
    }

    fn hear_of_links(&mut self, ready: &[bool]) {
        let ready: Vec<u32> =
            self.links.iter().zip(ready).filter(|(_, ready)| **ready).map(|(l, _)| l.id).collect();
        for id in ready {
            // What others have said waits in their links.
            if self.holder.is_some_and(|holder| holder != id) {
                continue;
            }
            let orders = self.link(id).map(Link::hear).unwrap_or_default();
            for order in orders {
                self.obey(id, order);
            }
        }
    }

    /// Whether others than the first client can come in.
    fn is_shared(&self) -> bool {
        let beside = self.beside.borrow();
        self.term.listener.is_some() || beside.as_ref().is_some_and(|beside| beside.is_shared())
    }

    fn link(&mut self, id: u32) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    fn say(&mut self, link: u32, word: FromAgent) {
        if let Some(link) = self.link(link) {
            link.say(word, None);
        }
    }

    fn admit(&mut self) {
        let Some(listener) = &self.term.listener else { return };
        let Ok(client) = socket::accept(listener.as_fd()) else {
            self.rests_until = Some(process::clock() + REST);
            return;
        };
        self.greet(client);
    }

    /// Takes a new client, unless there are too many already, who then sees a closed connection.
    fn greet(&mut self, client: OwnedFd) {
        if self.links.len() < MOST_LINKS {
            self.links.push(Link::greet(self.next_link, client));
            self.next_link += 1;
        }
    }

    /// Takes leave of clients that have gone, and kills what they have started for themselves.
    fn drop_links(&mut self) {
        let broken = self.links.iter().filter(|link| link.broken);
        let broken: Vec<_> = broken.map(|link| (link.id, uses(link))).collect();
        for (id, used) in broken {
            self.links.retain(|link| link.id != id);
            if used {
                self.last_used = process::clock();
            }
            if self.holder == Some(id) {
                self.let_go();
            }
            self.over |= id == FIRST_LINK && !self.released;
            self.abandon(id);
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let ttl = self.term.ttl.map(|ttl| self.began + ttl);
        let stopping = self.stopping.as_ref().map(|stopping| stopping.by);
        let commands = self.commands.iter().filter_map(Running::deadline).min();
        let all = [ttl, self.idle_deadline(), stopping, commands, self.rests_until];
        all.into_iter().flatten().min()
    }

    fn idle_deadline(&self) -> Option<Duration> {
        let idle = self.commands.is_empty() && !self.links.iter().any(uses);
        self.term.idle.filter(|_| idle).map(|idle| self.last_used + idle)
    }

    /// Does what is due by now.
    fn keep_time(&mut self) {
        let now = process::clock();
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if due(self.rests_until) {
            self.rests_until = None;
        }
        if due(self.term.ttl.map(|ttl| self.began + ttl)) {
            self.end("ttl");
        } else if due(self.idle_deadline()) {
            self.end("idle");
        } else if due(self.stopping.as_ref().map(|stopping| stopping.by)) {
            self.finish_stopping();
        }
        self.commands.iter_mut().for_each(|command| command.keep_time(now));
    }

    /// Ends the place of its own accord, and says why to whom it may concern.
    fn end(&mut self, why: &str) {
        if let Some(fate) = &self.term.fate {
            // Whoever misses the reason sees that it has ended all the same.
            let _ = descriptor::write(fate.as_fd(), why.as_bytes());
        }
        self.over = true;
    }
}
