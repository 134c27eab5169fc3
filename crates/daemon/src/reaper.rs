//! A thread that sees places to their end, so that nobody else has to wait for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use agentkernel_core::Remains;
use agentkernel_sys::descriptor;

use crate::nursery::Seat;

/// Takes places whose lease is over.
pub struct Reaper {
    seats: Sender<Job>,
    thread: JoinHandle<()>,
}

/// A place to be ended, and who wants to hear of it.
struct Job {
    seat: Seat,
    client: Option<u64>,
}

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
        let thread = thread::Builder::new().name("reaper".into()).spawn(move || {
            for Job { seat, client } in jobs {
                let remains = seat.end();
                match (client, remains) {
                    (Some(client), remains) => {
                        // If the front has gone, nobody waits.
                        let _ = tell.send(End { client, remains });
                        let _ = descriptor::write(ring.as_fd(), &[1]);
                    }
                    (None, Err(why)) => {
                        eprintln!("agentkerneld: a leased sandbox could not be removed: {why}");
                    }
                    (None, Ok(_)) => {}
                }
            }
        })?;
        Ok((Self { seats, thread }, Ends { ends, bell }))
    }

    /// Ends a place. `client` is who hears of it.
    pub fn end(&self, seat: Seat, client: Option<u64>) {
        // The thread goes on for as long as this can be sent to.
        let _ = self.seats.send(Job { seat, client });
    }

    /// Waits until all is done.
    pub fn stop(self) {
        drop(self.seats);
        // A panic in there has been printed.
        let _ = self.thread.join();
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
