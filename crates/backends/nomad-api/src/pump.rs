//! The stream into an allocation: carried by one exec, and by another one when that is cut, to the place's
//! end.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use agentkernel_far::session::{Key, Session};
use agentkernel_far::told;
use agentkernel_near::{Absence, Near};
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::time::{interval, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::exec::{Heard, PIECE, Socket, heard, stdin};
use crate::held::Held;

/// How long Nomad may take for a word of an exec that has begun.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often Nomad is told that somebody is still there, as its own program does.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Of a session's words the head, so that one goes into a frame.
const HEAD: usize = 8;

/// What carries a place's stream.
pub struct Pump {
    held: Held,
    near: Near,
    /// Can be read when the place is to end.
    quit: UnixStream,
    session: Session,
    /// What is said of an exec that is none.
    words: Vec<u8>,
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
        quit.set_nonblocking(true)?;
        let near = Near::new(ours, errors_to, PIECE - HEAD)?;
        let (quit, session) = (UnixStream::from_std(quit)?, Session::with_key(key));
        Ok(Self { held, near, quit, session, words: Vec::new() })
    }

    /// Carries it to the place's end, or until the allocation is out of reach for good.
    pub async fn carry(mut self, first: Socket) {
        let mut socket = first;
        let mut absence = Absence::new(self.held.kept);
        loop {
            match self.carry_by(socket).await {
                Cut::Over => return,
                Cut::Failed if !self.session.is_known() => break,
                Cut::Failed | Cut::Stream => {}
            }
            let mut in_vain = !self.near.has_heard();
            if !in_vain {
                absence.begin();
            }
            let next = loop {
                if in_vain && self.held.is_gone().await {
                    break None;
                }
                if absence.is_over() || self.near.is_late() {
                    break None;
                }
                if in_vain {
                    self.wait(absence.breath()).await;
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
        let _ = self.near.complain(&self.words);
    }

    async fn wait(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            _ = self.quit.readable(), if !self.near.has_ended() => {
                self.near.end(&mut self.session);
            }
        }
    }

    /// Carries it by this exec, until that ends.
    async fn carry_by(&mut self, socket: Socket) -> Cut {
        let (mut sink, mut source) = socket.split();
        let mut beat = interval(HEARTBEAT);
        beat.reset();
        let mut flushing = false;
        self.session.begin();
        self.words.clear();
        loop {
            let is_over = self.near.is_over();
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
            let idle = self.near.has_taken();
            tokio::select! {
                message = source.next(), if idle && !is_over => {
                    match heard(&self.held.client, message) {
                        Heard::Said { out, besides } => {
                            self.note(&besides);
                            let made_sense =
                                out.is_empty() || self.near.hear(&out, &mut self.session).is_ok();
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
                ready = self.near.ready(self.session.has_room()) => {
                    if !self.near.go_on(ready, &mut self.session) {
                        return Cut::Over;
                    }
                }
                _ = self.quit.readable(), if !self.near.has_ended() => {
                    self.near.end(&mut self.session);
                }
                _ = beat.tick(), if !flushing => {
                    if sink.start_send_unpin(Message::text("{}")).is_err() {
                        return Cut::Stream;
                    }
                    flushing = true;
                }
            }
        }
    }

    /// Keeps some of what an exec says that is no session's.
    fn note(&mut self, bytes: &[u8]) {
        const MOST: usize = 2048;
        let room = MOST.saturating_sub(self.words.len());
        self.words.extend_from_slice(&bytes[..bytes.len().min(room)]);
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
    while let Ok(message) = timeout(PATIENCE, socket.next()).await {
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
