//! A thread that sees places to their end, so that nobody else has to wait for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use agentkernel_core::Remains;
use agentkernel_sys::descriptor;

use crate::nursery::Seat;

/// Takes places whose lease is over.
pub struct Reaper {
    seats: Sender<Job>,
    thread: JoinHandle<()>,
}

/// A place to be ended.
struct Job {
    seat: Seat,
    urgency: Urgency,
}

enum Urgency {
    /// Nothing runs in it any more.
    WhenQuiet,
    /// Something may run in it. The client is who wants to hear of its end.
    Now(Option<u64>),
}

/// How long no other place may have come before the processors are taken to clear places away: as
/// long as a pool waits before it fills itself up.
const QUIET: Duration = Duration::from_millis(20);

/// How long a place waits at most, with what it holds of memory, and how many do.
const LONGEST: Duration = Duration::from_millis(250);
const MOST: usize = 128;

/// What has come to its end.
pub struct Ends {
    ends: Receiver<End>,
    /// A byte for each end that somebody waits for.
    bell: OwnedFd,
}

/// The end of the place that `client` had leased.
pub struct End {
    pub client: u64,
    pub remains: Result<Remains, String>,
}

impl Reaper {
    pub fn start() -> io::Result<(Self, Ends)> {
        let (seats, jobs) = channel::<Job>();
        let (tell, ends) = channel();
        let (bell, ring) = descriptor::pipe()?;
        descriptor::set_nonblocking(bell.as_fd())?;
        let told = move |client, remains| {
            // If the front has gone, nobody waits.
            let _ = tell.send(End { client, remains });
            let _ = descriptor::write(ring.as_fd(), &[1]);
        };
        let thread =
            thread::Builder::new().name("reaper".into()).spawn(move || reap(&jobs, told))?;
        Ok((Self { seats, thread }, Ends { ends, bell }))
    }

    /// Ends a place. `client` is who hears of it.
    pub fn end(&self, seat: Seat, client: Option<u64>) {
        // The thread goes on for as long as this can be sent to.
        let _ = self.seats.send(Job { seat, urgency: Urgency::Now(client) });
    }

    /// Ends a place in which nothing runs any more, once that takes no processor from who needs it.
    pub fn end_when_quiet(&self, seat: Seat) {
        let _ = self.seats.send(Job { seat, urgency: Urgency::WhenQuiet });
    }

    /// Waits until all is done.
    pub fn stop(self) {
        drop(self.seats);
        // A panic in there has been printed.
        let _ = self.thread.join();
    }
}

/// The thread's life.
fn reap(jobs: &Receiver<Job>, told: impl Fn(u64, Result<Remains, String>)) {
    let mut waiting: Vec<Seat> = Vec::new();
    let (mut oldest, mut last) = (Instant::now(), Instant::now());
    loop {
        let job = match waiting.len() {
            0 => jobs.recv().map_err(RecvTimeoutError::from),
            MOST.. => Err(RecvTimeoutError::Timeout),
            _ => {
                let until = (last + QUIET).min(oldest + LONGEST);
                jobs.recv_timeout(until.saturating_duration_since(Instant::now()))
            }
        };
        match job {
            Ok(Job { seat, urgency: Urgency::Now(Some(client)) }) => told(client, seat.end()),
            Ok(Job { seat, urgency: Urgency::Now(None) }) => clear_away(seat),
            Ok(Job { seat, urgency: Urgency::WhenQuiet }) => {
                last = Instant::now();
                if waiting.is_empty() {
                    oldest = last;
                }
                waiting.push(seat);
            }
            // All at once, so that as few runs as can be meet with it.
            Err(RecvTimeoutError::Timeout) => waiting.drain(..).for_each(clear_away),
            Err(RecvTimeoutError::Disconnected) => {
                waiting.into_iter().for_each(clear_away);
                return;
            }
        }
    }
}

fn clear_away(seat: Seat) {
    if let Err(why) = seat.end() {
        eprintln!("agentkerneld: a leased sandbox could not be removed: {why}");
    }
}

impl Ends {
    /// Those that have come since the last time.
    pub fn take(&self) -> Vec<End> {
        let mut rung = [0; 64];
        while matches!(descriptor::read(self.bell.as_fd(), &mut rung), Ok(read) if read > 0) {}
        self.ends.try_iter().collect()
    }
}

impl AsFd for Ends {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
