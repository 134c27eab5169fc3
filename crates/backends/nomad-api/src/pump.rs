//! The stream into an allocation: carried by one exec, and by another one when that is cut, to the place's
//! end.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use agentkernel_far::session::{Key, Said, Session};
use agentkernel_far::told;
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::exec::{Heard, PIECE, Socket, heard, stdin};
use crate::held::Held;

/// How long it is tried to get another exec: no longer than the agent waits for one, where nothing is kept.
const ABSENCE: Duration = Duration::from_secs(30);

/// The same where the agent waits for as long as it takes.
const LONG_ABSENCE: Duration = Duration::from_secs(600);

/// How long it is waited before the first try that follows one that has failed, and before any.
const BREATH: Duration = Duration::from_millis(50);
const LONG_BREATH: Duration = Duration::from_secs(2);

/// How long what is left to be said may take once this side has gone.
const LAST: Duration = Duration::from_secs(10);

/// How often Nomad is told that somebody is still there, as its own program does.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Of a session's words the head, so that one goes into a frame.
const HEAD: usize = 8;

/// What carries a place's stream.
pub struct Pump {
    held: Held,
    ours: UnixStream,
    errors_to: File,
    /// Can be read when the place is to end.
    quit: UnixStream,
    session: Session,
    /// What has come for this side and was not taken yet.
    pending: Vec<u8>,
    /// What is said of an exec that is none.
    words: Vec<u8>,
    /// Since when this side has nothing more to say, or the other.
    ended: Option<Instant>,
    over: bool,
}

/// Why an exec is of no more use.
enum Cut {
    Stream,
    /// It has failed, and whoever tries again meets the same.
    Failed,
    /// The place has ended, or this side is gone and there is nobody to hear of it.
    Over,
}

impl Pump {
    pub fn new(
        held: Held,
        key: Key,
        ours: StdUnixStream,
        errors_to: File,
        quit: StdUnixStream,
    ) -> io::Result<Self> {
        ours.set_nonblocking(true)?;
        quit.set_nonblocking(true)?;
        Ok(Self {
            held,
            ours: UnixStream::from_std(ours)?,
            errors_to,
            quit: UnixStream::from_std(quit)?,
            session: Session::with_key(key),
            pending: Vec::new(),
            words: Vec::new(),
            ended: None,
            over: false,
        })
    }

    /// Carries it to the place's end, or until the allocation is out of reach for good.
    pub async fn carry(mut self, first: Socket) {
        let mut socket = first;
        let mut cut_since = Instant::now();
        let mut breath = BREATH;
        loop {
            match self.carry_by(socket).await {
                Cut::Over => return,
                Cut::Failed if !self.session.is_known() => break,
                Cut::Failed | Cut::Stream => {}
            }
            let mut in_vain = !std::mem::take(&mut self.held.heard);
            if !in_vain {
                (cut_since, breath) = (Instant::now(), BREATH);
            }
            let next = loop {
                if in_vain && self.held.is_gone().await {
                    break None;
                }
                let most = if self.held.kept { LONG_ABSENCE } else { ABSENCE };
                let is_late = cut_since.elapsed() > most;
                if is_late || self.ended.is_some_and(|at| at.elapsed() > LAST) {
                    break None;
                }
                if in_vain {
                    // Nobody tells when the way is there again.
                    self.wait(breath).await;
                    breath = (breath * 2).min(LONG_BREATH);
                }
                match self.held.exec(self.session.is_known()).await {
                    Ok(again) => break Some(again),
                    Err(error) => self.words = told(error).into_bytes(),
                }
                in_vain = true;
            };
            match next {
                Some(next) => socket = next,
                None => break,
            }
        }
        // Why it was none, or is none any more.
        let _ = self.errors_to.write_all(&self.words);
    }

    async fn wait(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            _ = self.quit.readable(), if self.ended.is_none() => self.end(),
        }
    }

    /// Carries it by this exec, until that ends.
    async fn carry_by(&mut self, socket: Socket) -> Cut {
        let (mut sink, mut source) = socket.split();
        let mut beat = interval(HEARTBEAT);
        beat.reset();
        let mut flushing = false;
        let mut said = vec![0; PIECE - HEAD];
        self.session.begin();
        self.words.clear();
        loop {
            let is_over = self.over && self.pending.is_empty();
            if !flushing {
                let outgoing = self.session.outgoing();
                let piece = &outgoing[..outgoing.len().min(PIECE)];
                if piece.is_empty() && is_over {
                    return Cut::Over;
                }
                if !piece.is_empty() {
                    let (message, count) = (stdin(piece), piece.len());
                    if sink.start_send_unpin(message).is_err() {
                        return Cut::Stream;
                    }
                    self.session.wrote(count);
                    flushing = true;
                }
            }
            let idle = self.pending.is_empty();
            let room = self.session.has_room() && self.ended.is_none();
            let until = self.ended.map(|at| at + LAST);
            let pending = &self.pending;
            tokio::select! {
                message = source.next(), if idle && !is_over => {
                    match heard(&self.held.client, message) {
                        Heard::Said { out, besides } => {
                            self.note(&besides);
                            let made_sense = out.is_empty() || self.hear(&out).is_ok();
                            let known = self.session.is_known();
                            if !known {
                                self.note(&out);
                            }
                            if !made_sense {
                                return if known { Cut::Stream } else { Cut::Failed };
                            }
                        }
                        Heard::Exited(0) => return Cut::Stream,
                        Heard::Exited(_) => return Cut::Failed,
                        Heard::Closed(Some(why)) => {
                            self.words = why.into_bytes();
                            return Cut::Failed;
                        }
                        Heard::Closed(None) => return Cut::Stream,
                        Heard::Nothing => {}
                    }
                },
                flushed = sink.flush(), if flushing => match flushed {
                    Ok(()) => flushing = false,
                    Err(_) => return if is_over { Cut::Over } else { Cut::Stream },
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
                _ = self.quit.readable(), if self.ended.is_none() => self.end(),
                _ = beat.tick(), if !flushing => {
                    if sink.start_send_unpin(Message::text("{}")).is_err() {
                        return Cut::Stream;
                    }
                    flushing = true;
                }
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
        self.held.heard |= self.session.is_known();
        Ok(())
    }

    /// Keeps some of what an exec says that is no session's.
    fn note(&mut self, bytes: &[u8]) {
        const MOST: usize = 2048;
        let room = MOST.saturating_sub(self.words.len());
        self.words.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

async fn until_then(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Sends all of it, before anything else is said there, and waits for the byte that says it was taken.
pub async fn send_first(held: &Held, socket: &mut Socket, first: &[u8]) -> Result<(), Vec<u8>> {
    let mut words = Vec::new();
    for piece in first.chunks(PIECE) {
        if socket.send(stdin(piece)).await.is_err() {
            // Why is yet to be read.
            break;
        }
    }
    while let Ok(message) = timeout(ABSENCE, socket.next()).await {
        match heard(&held.client, message) {
            Heard::Said { out, .. } if out == b"\n" => return Ok(()),
            Heard::Said { out, besides } => words.extend([out, besides].concat()),
            Heard::Closed(Some(why)) => return Err(why.into_bytes()),
            Heard::Closed(None) | Heard::Exited(_) => break,
            Heard::Nothing => {}
        }
        words.truncate(PIECE);
    }
    Err(words)
}
