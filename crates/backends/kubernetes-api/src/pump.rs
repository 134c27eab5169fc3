//! The stream into a pod: carried by one exec, and by another one when that is cut, to the place's end.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use agentkernel_far::session::{Key, LONGEST, Said, Session};
use kube::api::AttachedProcess;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::bridge::{BUFFER, Held};
use crate::names;

/// How long it is tried to get another exec: no longer than the agent waits for one, where nothing is kept.
const ABSENCE: Duration = Duration::from_secs(30);

/// The same where the agent waits for as long as it takes.
const LONG_ABSENCE: Duration = Duration::from_secs(600);

/// How long it is waited before the first try that follows one that has failed, and before any.
const BREATH: Duration = Duration::from_millis(50);
const LONG_BREATH: Duration = Duration::from_secs(2);

/// How long what is left to be said may take once this side has gone.
const LAST: Duration = Duration::from_secs(10);

/// What carries a place's stream.
pub struct Pump<'a> {
    held: &'a Held,
    ours: UnixStream,
    errors_to: &'a mut File,
    session: Session,
    /// What has come for this side and was not taken yet.
    pending: Vec<u8>,
    /// Since when this side has nothing more to say, or the other.
    ended: Option<Instant>,
    over: bool,
}

/// Why an exec is of no more use.
enum Cut {
    Stream,
    /// The place has ended, or this side is gone and there is nobody to hear of it.
    Over,
}

impl<'a> Pump<'a> {
    pub fn new(held: &'a Held, ours: UnixStream, errors_to: &'a mut File) -> Self {
        let session = names::random().unwrap_or_default();
        let session = Session::with_key(Key { place: held.order.key, session });
        Self { held, ours, errors_to, session, pending: Vec::new(), ended: None, over: false }
    }

    /// Carries it to the place's end, or until the pod is out of reach for good.
    pub async fn carry(&mut self, first: AttachedProcess) {
        let mut exec = Some(first);
        let mut cut_since = Instant::now();
        let mut breath = BREATH;
        loop {
            if let Some(exec) = exec.take() {
                let was_known = self.session.is_known();
                match self.carry_by(exec).await {
                    Cut::Over => return,
                    Cut::Stream => {}
                }
                // Who has said something is there; a new absence begins.
                if self.session.is_known() || !was_known {
                    (cut_since, breath) = (Instant::now(), BREATH);
                }
            }
            let most = if self.held.order.kept { LONG_ABSENCE } else { ABSENCE };
            if cut_since.elapsed() > most || self.ended.is_some_and(|at| at.elapsed() > LAST) {
                return;
            }
            match self.held.exec().await {
                Ok(again) => exec = Some(again),
                Err(_) if self.held.is_gone().await => return,
                // The cluster tells nobody when it is back.
                Err(_) => {
                    sleep(breath).await;
                    breath = (breath * 2).min(LONG_BREATH);
                }
            }
        }
    }

    /// Carries it by this exec, until that ends.
    async fn carry_by(&mut self, mut exec: AttachedProcess) -> Cut {
        let (Some(mut stdin), Some(mut stdout)) = (exec.stdin(), exec.stdout()) else {
            return Cut::Over;
        };
        // Of an exec that has failed nothing else tells; one that has ended has said all before.
        let status = exec.take_status();
        let status = async {
            let has_failed = match status {
                Some(status) => status.await.is_none(),
                None => false,
            };
            if !has_failed {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(status);
        self.session.begin();
        let mut come = vec![0; BUFFER];
        let mut said = vec![0; LONGEST];
        loop {
            if self.over && self.pending.is_empty() {
                // All was heard, and the other end is to know.
                while !self.session.outgoing().is_empty() {
                    let last = timeout(LAST, stdin.write(self.session.outgoing()));
                    match last.await {
                        Ok(Ok(written @ 1..)) => self.session.wrote(written),
                        _ => break,
                    }
                }
                return Cut::Over;
            }
            let room = self.session.has_room() && self.ended.is_none();
            let idle = self.pending.is_empty();
            let pending = &self.pending;
            let until = self.ended.map(|at| at + LAST);
            let outgoing = self.session.outgoing();
            tokio::select! {
                read = stdout.read(&mut come), if idle => match read {
                    Ok(read @ 1..) => {
                        if self.hear(&come[..read]).is_err() {
                            return Cut::Stream;
                        }
                    }
                    _ => return Cut::Stream,
                },
                ready = self.ours.readable(), if room => {
                    match ready.and_then(|()| self.ours.try_read(&mut said)) {
                        Ok(read @ 1..) => self.session.say(&Said::Data(said[..read].to_vec())),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        _ => self.end(),
                    }
                },
                ready = self.ours.writable(), if !idle => {
                    match ready.and_then(|()| self.ours.try_write(pending)) {
                        Ok(written) => drop(self.pending.drain(..written)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        // Nobody takes it any more.
                        Err(_) => {
                            self.pending.clear();
                            self.end();
                        }
                    }
                },
                written = stdin.write(outgoing), if !outgoing.is_empty() => match written {
                    Ok(written @ 1..) => self.session.wrote(written),
                    _ => return Cut::Stream,
                },
                () = &mut status => return Cut::Stream,
                () = until_then(until) => return Cut::Over,
            }
        }
    }

    /// This side has nothing more to say: the place is to end.
    fn end(&mut self) {
        if self.ended.is_none() {
            self.ended = Some(Instant::now());
            self.session.say(&Said::End);
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        for said in self.session.hear(bytes)? {
            match said {
                Said::Data(bytes) => self.pending.extend(bytes),
                // They are bounded by whoever reads them.
                Said::Words(bytes) => self.errors_to.write_all(&bytes)?,
                Said::End => {
                    self.session.tell();
                    self.ended.get_or_insert_with(Instant::now);
                    self.over = true;
                }
            }
        }
        Ok(())
    }
}

async fn until_then(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
