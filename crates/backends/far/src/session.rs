//! A stream that may be cut and taken up again: nothing that was said is lost, and nothing is heard twice.
//!
//! Both ends have a [`Session`] each, which does no I/O. What one says is numbered, and held until the
//! other has said that it has it. On each new stream both say first how much they have heard, and whatever
//! is missing is said again. Whoever takes it up must have the session's key, which is told when it
//! begins, when nobody else is there who could listen.
//!
//! What is held is bounded by whoever asks whether there is [room](Session::has_room). The other end may be
//! hostile: what it says must fit, or the stream is of no more use.

use std::collections::VecDeque;
use std::io;

/// What nobody else knows: what whoever may come is told of the place, and what this session alone has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Key {
    pub place: [u8; 16],
    pub session: [u8; 16],
}

/// What somebody who says hello is, as seen by an end that has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// More is to be read.
    Unheard,
    /// The other end of this session.
    Same,
    /// One that begins a session of its own, and may.
    Successor,
    Stranger,
}

/// The most that is said at once.
pub const LONGEST: usize = 64 << 10;

/// How much is held that the other end may not have.
const MOST_HELD: usize = 1 << 20;

/// How much is heard before the other end is told so.
const TELL_AFTER: usize = 128 << 10;
const TELL_AFTER_WORDS: u64 = 32;

const HEAD: usize = 5;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Data(Vec<u8>),
    /// What the place says besides.
    Words(Vec<u8>),
    /// There is nothing more.
    End,
}

mod kind {
    pub(super) const HELLO: u8 = 0;
    pub(super) const HEARD: u8 = 1;
    pub(super) const DATA: u8 = 2;
    pub(super) const WORDS: u8 = 3;
    pub(super) const END: u8 = 4;
}

/// One end.
#[derive(Debug, Default)]
pub struct Session {
    key: Option<Key>,
    /// What the other end may not have, the first of which has the number `first`.
    held: VecDeque<Vec<u8>>,
    held_bytes: usize,
    first: u64,
    /// How many of those were said on this stream.
    said: usize,
    /// What has been heard, and how much of it the other end knows of.
    heard: u64,
    told: u64,
    untold_bytes: usize,
    /// What is to be said without a number, and first of all.
    hello: Vec<u8>,
    /// Whether it is to be told how much has been heard. Of that the last word counts, however often
    /// there was a reason for one.
    is_to_tell: bool,
    /// What is being written to the stream.
    outgoing: Vec<u8>,
    written: usize,
    /// What was read of something that is not whole yet.
    incoming: Vec<u8>,
    /// Whether the other end has said hello on this stream.
    greeted: bool,
    /// Whether it ever has.
    known: bool,
}

impl Session {
    /// One that takes the key that comes first.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that brings the key.
    pub fn with_key(key: Key) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    /// There is a new stream.
    pub fn begin(&mut self) {
        self.said = 0;
        self.outgoing.clear();
        self.incoming.clear();
        self.written = 0;
        self.greeted = false;
        self.hello.clear();
        self.is_to_tell = false;
        // Who takes a key has none before it has heard one.
        if self.key.is_some() {
            self.say_hello();
        }
    }

    fn say_hello(&mut self) {
        let Key { place, session } = self.key.unwrap_or_default();
        let known = u8::from(self.known);
        let body = [&place[..], &session, &[known], &self.heard.to_le_bytes()].concat();
        self.hello = frame(kind::HELLO, &body);
        self.has_told();
    }

    /// Whether more should be said now.
    pub fn has_room(&self) -> bool {
        self.held_bytes < MOST_HELD
    }

    /// Whether the other end has all.
    pub fn is_heard(&self) -> bool {
        self.held.is_empty()
    }

    pub fn say(&mut self, what: &Said) {
        let frame = match what {
            Said::Data(bytes) => frame(kind::DATA, bytes),
            Said::Words(bytes) => frame(kind::WORDS, bytes),
            Said::End => frame(kind::END, &[]),
        };
        self.held_bytes += frame.len();
        self.held.push_back(frame);
    }

    /// What is to be written to the stream next, which may be nothing.
    pub fn outgoing(&mut self) -> &[u8] {
        if self.written == self.outgoing.len() {
            self.written = 0;
            self.outgoing.clear();
            if !self.hello.is_empty() {
                self.outgoing.append(&mut self.hello);
            } else if std::mem::take(&mut self.is_to_tell) {
                self.outgoing = frame(kind::HEARD, &self.heard.to_le_bytes());
                self.has_told();
            } else if let Some(next) = self.held.get(self.said).filter(|_| self.greeted) {
                self.outgoing.extend_from_slice(next);
                self.said += 1;
            }
        }
        &self.outgoing[self.written..]
    }

    /// So much of that was written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Takes what was read, and returns what was said by it.
    pub fn hear(&mut self, bytes: &[u8]) -> io::Result<Vec<Said>> {
        self.incoming.extend_from_slice(bytes);
        let mut all = Vec::new();
        let mut at = 0;
        let incoming = std::mem::take(&mut self.incoming);
        while let Some((kind, body)) = first_frame(&incoming[at..])? {
            at += HEAD + body.len();
            all.extend(self.take(kind, body)?);
        }
        self.incoming = incoming;
        self.incoming.drain(..at);
        if self.untold_bytes >= TELL_AFTER || self.heard - self.told >= TELL_AFTER_WORDS {
            self.tell();
        }
        Ok(all)
    }

    /// Has the other end know what was heard.
    pub fn tell(&mut self) {
        self.is_to_tell = true;
    }

    fn has_told(&mut self) {
        (self.told, self.untold_bytes) = (self.heard, 0);
    }

    fn take(&mut self, kind: u8, body: &[u8]) -> io::Result<Option<Said>> {
        match kind {
            kind::HELLO if !self.greeted => {
                let (key, _, heard) = hello(body).ok_or_else(nonsense)?;
                match self.key {
                    Some(own) if own != key => return Err(io::ErrorKind::PermissionDenied.into()),
                    Some(_) => {}
                    None => {
                        self.key = Some(key);
                        self.say_hello();
                    }
                }
                self.let_go(heard, self.held.len())?;
                (self.greeted, self.known) = (true, true);
                Ok(None)
            }
            _ if !self.greeted => Err(nonsense()),
            kind::HEARD => {
                let heard = body.try_into().map(u64::from_le_bytes).map_err(|_| nonsense())?;
                self.let_go(heard, self.said)?;
                Ok(None)
            }
            kind::DATA | kind::WORDS | kind::END => {
                self.heard += 1;
                self.untold_bytes += body.len();
                Ok(Some(match kind {
                    kind::DATA => Said::Data(body.to_vec()),
                    kind::WORDS => Said::Words(body.to_vec()),
                    _ => Said::End,
                }))
            }
            _ => Err(nonsense()),
        }
    }

    /// Forgets what the other end has: all before the number `heard`, of no more than `most`.
    fn let_go(&mut self, heard: u64, most: usize) -> io::Result<()> {
        let count = heard.checked_sub(self.first).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count <= most).ok_or_else(nonsense)?;
        let gone: usize = self.held.drain(..count).map(|frame| frame.len()).sum();
        self.held_bytes -= gone;
        self.first = heard;
        self.said = self.said.saturating_sub(count);
        Ok(())
    }
}

/// What those are who have said `bytes`.
pub fn claim(bytes: &[u8], own: &Key) -> io::Result<Claim> {
    let found = match first_frame(bytes)? {
        None => return Ok(Claim::Unheard),
        Some((kind::HELLO, body)) => hello(body),
        Some(_) => None,
    };
    Ok(match found {
        Some((key, _, _)) if key == *own => Claim::Same,
        // Who was here before does not come again as somebody new.
        Some((key, false, _)) if key.place == own.place => Claim::Successor,
        _ => Claim::Stranger,
    })
}

impl Session {
    /// The key, once there is one.
    pub fn key(&self) -> Option<Key> {
        self.key
    }

    /// Whether the other end has ever said anything.
    pub fn is_known(&self) -> bool {
        self.known
    }
}

/// The key, whether its session has begun for whoever says so, and how much they have heard.
fn hello(body: &[u8]) -> Option<(Key, bool, u64)> {
    let (place, rest) = body.split_first_chunk()?;
    let (session, rest) = rest.split_first_chunk()?;
    let (known, heard) = rest.split_first()?;
    let key = Key { place: *place, session: *session };
    Some((key, *known != 0, u64::from_le_bytes(heard.try_into().ok()?)))
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    // Nobody says more at once than is allowed.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&[kind][..], &length.to_le_bytes(), body].concat()
}

/// The first frame of what was read, if it is whole.
fn first_frame(bytes: &[u8]) -> io::Result<Option<(u8, &[u8])>> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > LONGEST {
        return Err(nonsense());
    }
    Ok(rest.get(..length).map(|body| (head[0], body)))
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { place: [7; 16], session: [9; 16] };

    /// Carries at most `most` bytes from one to the other, and returns what was heard.
    fn carry(from: &mut Session, to: &mut Session, most: usize) -> Vec<Said> {
        let mut heard = Vec::new();
        let mut left = most;
        while left > 0 {
            let bytes = from.outgoing();
            let bytes = bytes[..bytes.len().min(left).min(7)].to_vec();
            if bytes.is_empty() {
                break;
            }
            from.wrote(bytes.len());
            left -= bytes.len();
            heard.extend(to.hear(&bytes).unwrap());
        }
        heard
    }

    fn data(text: &str) -> Said {
        Said::Data(text.as_bytes().to_vec())
    }

    #[test]
    fn whatever_is_cut_where_all_is_heard_once() {
        for cut in 0..400 {
            let (mut one, mut other) = (Session::with_key(KEY), Session::new());
            let (mut there, mut back) = (Vec::new(), Vec::new());
            one.begin();
            other.begin();
            for word in ["a", "bc", "def"] {
                one.say(&data(word));
                other.say(&data(word));
            }
            for most in [cut, cut / 2] {
                there.extend(carry(&mut one, &mut other, most));
                back.extend(carry(&mut other, &mut one, most));
                one.begin();
                other.begin();
            }
            one.say(&Said::End);
            for _ in 0..4 {
                there.extend(carry(&mut one, &mut other, 10_000));
                back.extend(carry(&mut other, &mut one, 10_000));
            }
            let all = [data("a"), data("bc"), data("def")];
            assert_eq!(back, all, "{cut}");
            assert_eq!(there, [&all[..], &[Said::End]].concat(), "{cut}");
            one.tell();
            other.tell();
            carry(&mut one, &mut other, 10_000);
            carry(&mut other, &mut one, 10_000);
            assert!(one.is_heard() && other.is_heard());
        }
    }

    #[test]
    fn without_the_key_nobody_takes_it_up() {
        let (mut one, mut other) = (Session::with_key(KEY), Session::new());
        one.begin();
        other.begin();
        carry(&mut one, &mut other, 1000);
        let hello = |key, known| {
            let mut session = Session { known, ..Session::with_key(key) };
            session.begin();
            session.outgoing().to_vec()
        };
        let of = |bytes: &[u8]| claim(bytes, &KEY).unwrap();
        assert_eq!(of(&hello(KEY, true)), Claim::Same);
        let other_session = Key { session: [8; 16], ..KEY };
        assert_eq!(of(&hello(other_session, false)), Claim::Successor);
        assert_eq!(of(&hello(other_session, true)), Claim::Stranger);
        let elsewhere = hello(Key { place: [8; 16], ..KEY }, false);
        assert_eq!(of(&elsewhere), Claim::Stranger);
        assert_eq!(of(&elsewhere[..9]), Claim::Unheard);
        other.begin();
        assert!(other.hear(&elsewhere).is_err());
    }

    #[test]
    fn nonsense_ends_it() {
        let hello = |heard: u64| frame(kind::HELLO, &[&[0; 33][..], &heard.to_le_bytes()].concat());
        for wrong in [
            frame(kind::DATA, b"before hello"),
            vec![kind::DATA, 255, 255, 255, 255],
            hello(1),
            [hello(0), frame(kind::HEARD, &9_u64.to_le_bytes())].concat(),
            [hello(0), frame(99, b"")].concat(),
            [hello(0), hello(0)].concat(),
        ] {
            let mut session = Session::new();
            session.begin();
            assert!(session.hear(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_held_has_a_bound() {
        let mut session = Session::new();
        while session.has_room() {
            session.say(&Said::Data(vec![0; LONGEST]));
        }
        assert!(session.held_bytes < MOST_HELD + LONGEST + HEAD + 1);
    }

    #[test]
    fn whoever_says_much_and_takes_nothing_is_told_of_it_once() {
        let mut session = Session::with_key(KEY);
        session.begin();
        session.hear(&frame(kind::HELLO, &[&[7; 16][..], &[9; 16], &[0; 9]].concat())).unwrap();
        for _ in 0..10_000 {
            session.hear(&frame(kind::WORDS, b"")).unwrap();
        }
        let mut waiting = Vec::new();
        while let said @ [_, ..] = session.outgoing() {
            waiting.extend_from_slice(said);
            let count = said.len();
            session.wrote(count);
        }
        assert_eq!(waiting.len(), 2 * HEAD + 41 + 8, "a hello, and a word of how much was heard");
    }
}
