//! The stream into a pod: carried by one way, and by another one when that is cut, to the place's end.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;

use agentkernel_far::ADOPTED;
use agentkernel_far::session::{Key, LONGEST, Session};
use agentkernel_near::{Absence, LAST, Near};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::bridge::{Held, Look};
use crate::way::Way;

/// What carries a place's stream.
pub struct Pump<'a> {
    held: &'a Held,
    near: Near,
    session: Session,
}

/// Why a way is of no more use.
enum Cut {
    Stream,
    /// The place has ended, or this side is gone and there is nobody to hear of it.
    Over,
}

impl<'a> Pump<'a> {
    pub fn new(held: &'a Held, ours: UnixStream, errors_to: File) -> io::Result<Self> {
        let key = Key { place: held.order.key, session: agentkernel_far::random()? };
        let near = Near::new(ours, errors_to, LONGEST)?;
        Ok(Self { held, near, session: Session::with_key(key) })
    }

    /// Carries it to the place's end, or until the pod is out of reach for good.
    pub async fn carry(&mut self, first: Way) {
        let mut way = first;
        let mut absence = Absence::new(self.held.order.kept);
        while let Cut::Stream = self.carry_by(way).await {
            let mut in_vain = !self.near.has_heard();
            if !in_vain {
                absence.begin();
            }
            way = loop {
                if absence.is_over() || self.near.is_late() {
                    return;
                }
                // What is kept may be another's by now, who is not to be disturbed.
                let kept = self.held.order.kept;
                if in_vain || kept {
                    let seen = self.held.look().await;
                    in_vain |= matches!(seen, Look::Unknown(_));
                    match seen {
                        Look::Gone => return,
                        Look::Lost { .. } => return self.give_up(),
                        Look::Unknown(_) if kept => {
                            sleep(absence.breath()).await;
                            continue;
                        }
                        Look::There | Look::Unknown(_) => {}
                    }
                }
                if in_vain {
                    sleep(absence.breath()).await;
                }
                match self.held.exec().await {
                    Ok(again) => break again,
                    Err(_) => in_vain = true,
                }
            };
        }
    }

    /// Says here what has become of it. It lives on, for somebody else.
    fn give_up(&mut self) {
        // Nobody may be there to hear it.
        let _ = self.near.complain(format!("\n{ADOPTED}\n").as_bytes());
    }

    /// Carries it by this way, until that ends.
    async fn carry_by(&mut self, mut way: Way) -> Cut {
        self.session.begin();
        let mut come = vec![0; LONGEST];
        loop {
            if self.near.is_over() {
                // All was heard, and the other end is to know.
                while !self.session.outgoing().is_empty() {
                    let last = timeout(LAST, way.input.write(self.session.outgoing()));
                    match last.await {
                        Ok(Ok(written @ 1..)) => self.session.wrote(written),
                        _ => break,
                    }
                }
                return Cut::Over;
            }
            let room = self.session.has_room();
            let idle = self.near.has_taken();
            let outgoing = self.session.outgoing();
            tokio::select! {
                read = way.output.read(&mut come), if idle => match read {
                    Ok(read @ 1..) => {
                        if self.near.hear(&come[..read], &mut self.session).is_err() {
                            return Cut::Stream;
                        }
                    }
                    _ => return Cut::Stream,
                },
                written = way.input.write(outgoing), if !outgoing.is_empty() => match written {
                    Ok(written @ 1..) => self.session.wrote(written),
                    _ => return Cut::Stream,
                },
                ready = self.near.ready(room) => {
                    if !self.near.go_on(ready, &mut self.session) {
                        return Cut::Over;
                    }
                }
                () = &mut way.failure => return Cut::Stream,
            }
        }
    }
}
