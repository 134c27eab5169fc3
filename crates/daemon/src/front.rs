//! The thread that answers on the socket. It waits for nothing but the next word.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use agentkernel_engine::Lines;
use agentkernel_pool::{Lease, Spare};
use agentkernel_store::{Dirs, Store};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::signal::{self, Signals};
use agentkernel_sys::socket::Peer;
use agentkernel_wire::{DAEMON_VERSION, DaemonReply, DaemonRequest, DaemonStatus, micros};

use crate::DaemonError;
use crate::door::Door;
use crate::house;
use crate::nursery::Seat;
use crate::pools::Pools;
use crate::reaper::{End, Ends, Reaper};

/// More clients at once than any machine has use for.
const MOST_CLIENTS: usize = 4096;

/// How long a client may take to say what it wants. One with a lease may take its time.
const HEARING: Duration = Duration::from_secs(10);

/// How long nobody is let in after that has failed, as for want of descriptors: who waits there
/// would wake the thread again at once.
const REST: Duration = Duration::from_millis(100);

/// How long commands in leased sandboxes may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);

pub struct Front {
    door: Door,
    signals: Signals,
    dirs: Dirs,
    store: Store,
    pools: Pools,
    reaper: Reaper,
    ends: Ends,
    clients: Vec<Client>,
    next_client: u64,
    began: Instant,
    /// When to stop at the latest, once that was asked for.
    stopping: Option<Instant>,
    /// Until when nobody is let in.
    rests_until: Option<Instant>,
}

/// One connection.
struct Client {
    id: u64,
    lines: Lines,
    peer: Peer,
    /// Kept as it is until its end: only then, unless the pool runs low, another is booted, so that
    /// no boot takes the processor from the command.
    lease: Option<Lease<Seat>>,
    /// When its time to say something is over; none while it waits for an answer.
    until: Option<Instant>,
    /// Whether it has gone, or has to.
    gone: bool,
    /// Whether it waits for the daemon's end.
    waits_for_stop: bool,
}

impl Client {
    fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| self.lease.is_none())
    }
}

impl Front {
    /// Receives the signals that end a daemon by custom. Before any thread is made, so that none
    /// gets them.
    pub fn signals() -> Result<Signals, DaemonError> {
        let all = [signal::SIGTERM, signal::SIGINT, signal::SIGHUP];
        Signals::receive(&all).map_err(DaemonError::io("receive signals"))
    }

    pub fn new(
        door: Door,
        signals: Signals,
        dirs: Dirs,
        store: Store,
        pools: Pools,
        reaper: Reaper,
        ends: Ends,
    ) -> Self {
        Self {
            door,
            signals,
            dirs,
            store,
            pools,
            reaper,
            ends,
            clients: Vec::new(),
            next_client: 0,
            began: Instant::now(),
            stopping: None,
            rests_until: None,
        }
    }

    /// Answers until it is told to stop, and everything that is the daemon's own has gone.
    pub fn serve(mut self) -> Result<(), DaemonError> {
        println!("ready");
        while !self.is_done() {
            self.turn().map_err(DaemonError::io("serve the socket"))?;
        }
        for client in &mut self.clients {
            if let Some(lease) = client.lease.take() {
                self.reaper.end(lease.into_inner(), None);
            }
        }
        self.reaper.stop();
        self.pools.stop();
        for client in self.clients.iter().filter(|client| client.waits_for_stop) {
            // It sees the end of the connection all the same.
            let _ = client.lines.send_now(&DaemonReply::Done.to_line(), &[]);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let drained = self.clients.iter().all(|client| client.lease.is_none());
        self.stopping.is_some_and(|until| drained || until <= Instant::now())
    }

    fn turn(&mut self) -> std::io::Result<()> {
        let timeout = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let door = match (self.stopping, self.rests_until) {
            (None, None) => Interest::readable(self.door.as_fd()),
            _ => Interest::none(),
        };
        let mut interests = vec![
            door,
            Interest::readable(self.signals.as_fd()),
            Interest::readable(self.ends.as_fd()),
        ];
        interests.extend(self.clients.iter().map(|c| Interest::readable(c.lines.as_fd())));
        descriptor::poll(&mut interests, timeout)?;
        let ready: Vec<bool> = interests.iter().map(Interest::is_ready).collect();
        for at in (0..self.clients.len()).filter(|at| ready[3 + at]) {
            self.hear(at);
        }
        if ready[2] {
            self.ends.take().into_iter().for_each(|end| self.tell_of(end));
        }
        if ready[1] {
            while let Some(received) = self.signals.take()? {
                match received {
                    signal::SIGHUP => self.reload().unwrap_or_else(|why| eprintln!("error: {why}")),
                    _ => self.begin_to_stop(),
                }
            }
        }
        self.keep_time();
        self.dismiss();
        if ready[0] {
            self.admit();
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let hearings = self.clients.iter().filter_map(Client::deadline).min();
        [self.stopping, self.rests_until, hearings].into_iter().flatten().min()
    }

    /// Has those go who have said nothing for too long.
    fn keep_time(&mut self) {
        let now = Instant::now();
        self.rests_until = self.rests_until.filter(|at| *at > now);
        for client in &mut self.clients {
            client.gone |= client.deadline().is_some_and(|at| at <= now);
        }
    }

    fn admit(&mut self) {
        match self.door.admit() {
            Ok(Some((lines, peer))) if self.clients.len() < MOST_CLIENTS => {
                let id = self.next_client;
                self.next_client += 1;
                self.clients.push(Client {
                    id,
                    lines,
                    peer,
                    lease: None,
                    until: Some(Instant::now() + HEARING),
                    gone: false,
                    waits_for_stop: false,
                });
                // Most have spoken by now.
                self.hear(self.clients.len() - 1);
            }
            // A stranger, or one too many, sees the end of the connection.
            Ok(_) => {}
            Err(error) => {
                eprintln!("agentkerneld: nobody can be let in for now: {error}");
                self.rests_until = Some(Instant::now() + REST);
            }
        }
    }

    fn hear(&mut self, at: usize) {
        let client = &mut self.clients[at];
        match client.lines.receive_now() {
            Ok(true) => {}
            Ok(false) | Err(_) => {
                client.gone = true;
                return;
            }
        }
        while let Some(line) = self.clients[at].lines.take_line() {
            let reply = match DaemonRequest::from_line(&line) {
                Ok(request) => self.answer(at, request),
                Err(why) => Some(DaemonReply::Failed { why }),
            };
            if let Some(reply) = reply {
                self.say(at, &reply);
            }
        }
    }

    /// What there is to say at once.
    fn answer(&mut self, at: usize, request: DaemonRequest) -> Option<DaemonReply> {
        match request {
            DaemonRequest::Lease { version: DAEMON_VERSION, key } => self.lease(at, &key),
            DaemonRequest::Lease { version, .. } => Some(DaemonReply::NoLease {
                why: format!(
                    "the daemon is of version {DAEMON_VERSION} and does not know {version}"
                ),
            }),
            DaemonRequest::End => {
                let client = &mut self.clients[at];
                match client.lease.take() {
                    Some(lease) => {
                        client.until = None;
                        self.reaper.end(lease.into_inner(), Some(client.id));
                        None
                    }
                    None => Some(DaemonReply::Failed { why: "there is no lease to end".into() }),
                }
            }
            DaemonRequest::Over => {
                if let Some(lease) = self.clients[at].lease.take() {
                    self.reaper.end_when_quiet(lease.into_inner());
                }
                None
            }
            DaemonRequest::Status => Some(DaemonReply::Status(self.status())),
            DaemonRequest::Reload => Some(match self.reload() {
                Ok(()) => DaemonReply::Done,
                Err(why) => DaemonReply::Failed { why },
            }),
            DaemonRequest::Stop => {
                self.clients[at].waits_for_stop = true;
                self.clients[at].until = None;
                self.begin_to_stop();
                None
            }
        }
    }

    fn lease(&mut self, at: usize, key: &str) -> Option<DaemonReply> {
        let client = &mut self.clients[at];
        if client.lease.is_some() {
            return Some(DaemonReply::Failed { why: "there is a lease already".into() });
        }
        let (pool, lease) = match self.pools.lease(key) {
            Ok(lease) => lease,
            Err(why) => return Some(DaemonReply::NoLease { why }),
        };
        let seat = lease.spare();
        let (pool, pid, place) = (pool.to_owned(), seat.pid, seat.place.clone());
        let reply = DaemonReply::Leased { pool, pid, place };
        client.gone |= client.lines.send_now(&reply.to_line(), &[seat.as_fd()]).is_err();
        lease.unwatch();
        client.lease = Some(lease);
        if let DaemonReply::Leased { pool, pid, .. } = &reply {
            house::note_lease(&self.dirs, &client.peer, pool, *pid);
        }
        None
    }

    fn tell_of(&mut self, end: End) {
        let Some(at) = self.clients.iter().position(|client| client.id == end.client) else {
            return;
        };
        let reply = match end.remains {
            Ok(remains) => DaemonReply::Ended {
                oom_kills: remains.oom_kills,
                user_us: micros(remains.usage.user),
                system_us: micros(remains.usage.system),
                max_rss_bytes: remains.usage.max_resident,
            },
            Err(why) => DaemonReply::Failed { why },
        };
        self.say(at, &reply);
    }

    fn say(&mut self, at: usize, reply: &DaemonReply) {
        let client = &mut self.clients[at];
        client.until = Some(Instant::now() + HEARING);
        // One that does not listen is lost.
        client.gone |= client.lines.send_now(&reply.to_line(), &[]).is_err();
    }

    /// Takes leave of those who have gone, and of their sandboxes.
    fn dismiss(&mut self) {
        for client in self.clients.iter_mut().filter(|client| client.gone) {
            if let Some(lease) = client.lease.take() {
                self.reaper.end(lease.into_inner(), None);
            }
        }
        self.clients.retain(|client| !client.gone);
    }

    fn begin_to_stop(&mut self) {
        self.stopping.get_or_insert_with(|| Instant::now() + DRAIN);
    }

    fn reload(&mut self) -> Result<(), String> {
        self.pools.reload(&self.store).map_err(|error| error.to_string())
    }

    fn status(&self) -> DaemonStatus {
        DaemonStatus {
            version: DAEMON_VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id().cast_signed(),
            uptime_ms: micros(self.began.elapsed()) / 1000,
            leases: self.clients.iter().filter(|client| client.lease.is_some()).count() as u64,
            pools: self.pools.status(),
        }
    }
}
