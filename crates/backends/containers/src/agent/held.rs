//! A stream that other processes bring, one after the other: when one is cut, what was said goes on with
//! the next. Process 1 keeps it, beside being the agent that it is for.
//!
//! Where an engine can reach a port inside, the first stream may come by that, which spares it a process: it
//! is the loopback's, and closed before anything runs that could meet it.

use std::env;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use agentkernel_far::session::{Claim, LONGEST, Said, Session, claim};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{process, signal, socket};

use super::far;
use super::install::connect;

/// Where those who bring a stream come to, in the folder [`DOOR`](crate::greeting::DOOR).
const MEETING: &str = "/.agentkernel/door/relay";

/// What somebody hears who has come by the port, before all else: a connection may be held by the engine
/// alone.
pub const WELCOME: u8 = b'+';

/// How long the first stream may take to come.
const ARRIVAL: Duration = Duration::from_secs(60);

/// How long the next one may take, where nothing is kept: whoever has made the place may be gone.
const ABSENCE: Duration = Duration::from_secs(30);

/// How long who brings a stream may take to say that it is the right one.
const HELLO: Duration = Duration::from_secs(10);

/// How long it may take to hand over what it brings. Nobody else is served meanwhile.
const HANDING: Duration = Duration::from_millis(500);

/// How long what is left to be said at the end may take.
const LAST: Duration = Duration::from_secs(10);

/// Serves a place; if it is `kept`, one after the other, for as long as that takes.
///
/// The caller is process 1, so that nothing that runs in the place can end or stop the agent, and whatever
/// signals all in it does not reach it.
pub fn serve(kept: bool) -> io::Result<()> {
    let listener = socket::listen(Path::new(MEETING))?;
    // Whatever came along from the engine.
    descriptor::close_all_but(&mut [0, 1, 2, listener.as_raw_fd()])?;
    let mut port = open_port();
    loop {
        let ended = serve_life(&listener, port.take(), kept);
        if !kept {
            return ended;
        }
        process::signal_all(signal::SIGKILL)?;
        process::await_all_deaths();
    }
}

/// The port that this program was told. Who does not get it, or was told none, does without.
fn open_port() -> Option<TcpListener> {
    let port = env::args_os().nth(2)?.to_str()?.parse().ok()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    listener.set_nonblocking(true).ok().map(|()| listener)
}

fn readable(port: Option<&TcpListener>) -> Interest<'_> {
    port.map_or(Interest::none(), |port| Interest::readable(port.as_fd()))
}

/// One place.
fn serve_life(listener: &OwnedFd, port: Option<TcpListener>, kept: bool) -> io::Result<()> {
    let (theirs, inner) = socket::pair()?;
    let (words, errors) = descriptor::pipe()?;
    descriptor::set_nonblocking(theirs.as_fd())?;
    let mut keeper = Keeper::new(listener, port, inner, words, kept)?;
    // Nobody knows when one comes to a pool.
    let may_stay = kept || super::is_asked(super::POOLED);
    keeper.await_stream((!may_stay).then_some(ARRIVAL))?;
    let (input, last) = (theirs.try_clone()?, errors.try_clone()?);
    if let Err(error) = far::serve_kept(input, theirs, errors, None, Some(&mut keeper)) {
        let why = format!("agentkernel: the sandbox can't be made: {error}\n");
        descriptor::write(last.as_fd(), why.as_bytes())?;
    }
    drop(last);
    keeper.finish()
}

/// Brings the own standard streams, and waits until they are not wanted any more.
pub fn bring() -> io::Result<()> {
    let link = connect(Path::new(MEETING), ARRIVAL)?;
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    socket::send(link.as_fd(), &[0], &[input.as_fd(), output.as_fd(), errors.as_fd()])?;
    // Only the keeper is to have them, so that its end is theirs.
    let null = descriptor::open_read(c"/dev/null")?;
    descriptor::become_standard_streams([null.as_fd(); 3])?;
    descriptor::poll(&mut [Interest::readable(link.as_fd())], None).map(drop)
}

/// A stream that somebody has brought.
struct Brought {
    input: OwnedFd,
    output: OwnedFd,
    /// The errors, of which engines take the end for that of all, and a link, whose end tells whoever has
    /// brought it to go. What came by the port has neither.
    _besides: Vec<OwnedFd>,
}

/// One of which it is not known yet whether it is the right one, or whether anything is to be said on it.
struct Candidate {
    brought: Brought,
    said: Vec<u8>,
    until: Instant,
}

/// What keeps a place's stream.
pub(super) struct Keeper<'a> {
    listener: &'a OwnedFd,
    /// Where the first stream may come as well, until it has.
    port: Option<TcpListener>,
    inner: OwnedFd,
    words: Option<OwnedFd>,
    kept: bool,
    session: Session,
    stream: Option<Brought>,
    candidate: Option<Candidate>,
    /// What the agent has not taken yet.
    pending: Vec<u8>,
    /// Whether nothing comes after that.
    closing: bool,
    /// Whether the agent has said all.
    ended: bool,
    /// Until when a stream must have come, or all must be said.
    until: Option<Instant>,
}

/// Waits as [`descriptor::poll`] does.
type Poll<'a> = dyn FnMut(&mut [Interest<'_>], Option<Duration>) -> io::Result<bool> + 'a;

/// How many descriptors it waits for.
const WATCHED: usize = 8;

impl<'a> Keeper<'a> {
    fn new(
        listener: &'a OwnedFd,
        port: Option<TcpListener>,
        inner: OwnedFd,
        words: OwnedFd,
        kept: bool,
    ) -> io::Result<Self> {
        descriptor::set_nonblocking(inner.as_fd())?;
        descriptor::set_nonblocking(words.as_fd())?;
        Ok(Self {
            listener,
            port,
            inner,
            words: Some(words),
            kept,
            session: Session::new(),
            stream: None,
            candidate: None,
            pending: Vec::new(),
            closing: false,
            ended: false,
            until: None,
        })
    }

    /// Waits until somebody brings a stream, no longer than `most`.
    fn await_stream(&mut self, most: Option<Duration>) -> io::Result<()> {
        self.until = most.map(|most| Instant::now() + most);
        while self.stream.is_none() {
            self.wait(Interest::none(), None)?;
        }
        Ok(())
    }

    /// Serves what the agent has left, which has gone.
    fn finish(&mut self) -> io::Result<()> {
        while !(self.ended && self.session.is_heard()) {
            self.wait(Interest::none(), None)?;
        }
        Ok(())
    }

    /// Waits until something is ready, no longer than `most`, and keeps the stream meanwhile.
    pub(super) fn wait(
        &mut self,
        interest: Interest<'_>,
        most: Option<Duration>,
    ) -> io::Result<bool> {
        let mut interest = [interest];
        self.poll(&mut interest, most, &mut |all, most| descriptor::poll(all, most))?;
        Ok(interest[0].is_ready())
    }

    /// Does one turn, for which `poll` waits, and returns what that does. An error says that nobody
    /// brings a stream.
    pub(super) fn poll(
        &mut self,
        others: &mut [Interest<'_>],
        most: Option<Duration>,
        poll: &mut Poll<'_>,
    ) -> io::Result<bool> {
        let candidates = self.candidate.as_ref().map(|candidate| candidate.until);
        let until = self.until.into_iter().chain(candidates).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut all = Vec::with_capacity(WATCHED + others.len());
        all.extend(self.interests());
        all.extend_from_slice(others);
        let polled = poll(&mut all, most.into_iter().chain(left).min());
        let (own, found) = all.split_at(WATCHED);
        others.iter_mut().zip(found).for_each(|(other, found)| other.found_by(found));
        let mut ready = [false; WATCHED];
        ready.iter_mut().zip(own).for_each(|(ready, own)| *ready = own.is_ready());
        drop(all);
        self.go_on(ready);
        if self.until.is_some_and(|until| until <= Instant::now()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        polled
    }

    fn interests(&mut self) -> [Interest<'_>; WATCHED] {
        let has_room = self.session.has_room();
        let speaks = !self.session.outgoing().is_empty();
        let when = |wanted: bool, interest| if wanted { interest } else { Interest::none() };
        let stream = self.stream.as_ref();
        let input = stream.filter(|_| self.pending.is_empty());
        let output = stream.filter(|_| speaks);
        [
            when(self.candidate.is_none(), Interest::readable(self.listener.as_fd())),
            when(self.candidate.is_none(), readable(self.port.as_ref())),
            when(has_room && !self.ended, Interest::readable(self.inner.as_fd())),
            when(!self.pending.is_empty(), Interest::writable(self.inner.as_fd())),
            self.words.as_ref().map_or(Interest::none(), |words| Interest::readable(words.as_fd())),
            input.map_or(Interest::none(), |stream| Interest::readable(stream.input.as_fd())),
            output.map_or(Interest::none(), |stream| Interest::writable(stream.output.as_fd())),
            self.candidate
                .as_ref()
                .map_or(Interest::none(), |one| Interest::readable(one.brought.input.as_fd())),
        ]
    }

    /// Does what there is to do.
    fn go_on(&mut self, ready: [bool; WATCHED]) {
        let [listener, port, inner, inner_takes, words, input, output, candidate] = ready;
        if inner && !self.hear_inner() {
            self.end();
        }
        if words {
            self.hear_words();
        }
        if inner_takes && !self.tell_inner() {
            // What it has said before its end is yet to be heard.
            self.pending.clear();
        }
        if listener {
            self.admit();
        }
        if port {
            self.admit_by_port();
        }
        let late = |candidate: &Candidate| candidate.until <= Instant::now();
        if self.candidate.as_ref().is_some_and(late) {
            self.candidate = None;
        } else if candidate {
            self.hear_candidate();
        }
        if input && !self.hear_stream() || output && !self.tell_stream() {
            self.cut();
        }
        if self.closing && self.pending.is_empty() {
            self.closing = false;
            // It may have gone.
            let _ = socket::end_sending(self.inner.as_fd());
        }
    }

    /// Takes what the agent says. Returns false when that was all.
    fn hear_inner(&mut self) -> bool {
        let mut buffer = [0; LONGEST];
        match descriptor::read(self.inner.as_fd(), &mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.session.say(&Said::Data(buffer[..read].to_vec()));
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Process 1 has nothing more to say but its last words.
    fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.pending.clear();
        while self.hear_words() {}
        self.words = None;
        if std::process::id() == 1 {
            // Whatever it has left goes with it. Who brought the stream is not needed for that.
            let _ = process::signal_all(signal::SIGKILL);
        }
        self.session.say(&Said::End);
        // Whoever was cut off may come again to hear it.
        let most = if self.stream.is_some() { LAST } else { ABSENCE };
        self.until = Some(Instant::now() + most);
    }

    /// Takes some of its last words. Returns whether there may be more.
    fn hear_words(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let Some(words) = &self.words else { return false };
        match descriptor::read(words.as_fd(), &mut buffer) {
            Ok(read @ 1..) => {
                self.session.say(&Said::Words(buffer[..read].to_vec()));
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => self.words = None,
        }
        false
    }

    /// Has the agent take what has come for it. Returns false if it never will.
    fn tell_inner(&mut self) -> bool {
        match descriptor::write(self.inner.as_fd(), &self.pending) {
            Ok(written) => {
                self.pending.drain(..written);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn admit(&mut self) {
        // Whoever has gone by now has brought nothing.
        let Ok(link) = socket::accept(self.listener.as_fd()) else { return };
        // It speaks at once.
        if socket::limit_waiting(link.as_fd(), HANDING).is_err() {
            return;
        }
        let Ok((_, streams)) = socket::receive(link.as_fd(), &mut [0]) else { return };
        let mut streams = streams.into_iter().flatten();
        let mut next = || streams.next();
        let (Some(input), Some(output), Some(errors)) = (next(), next(), next()) else { return };
        let nonblocking = |fd: &OwnedFd| descriptor::set_nonblocking(fd.as_fd()).is_ok();
        if !nonblocking(&input) || !nonblocking(&output) {
            return;
        }
        let brought = Brought { input, output, _besides: vec![errors, link] };
        match self.session.key() {
            None => self.take_up(brought, &[]),
            Some(_) => self.await_word(brought),
        }
    }

    fn await_word(&mut self, brought: Brought) {
        let until = Instant::now() + HELLO;
        self.candidate = Some(Candidate { brought, said: Vec::new(), until });
    }

    /// Who leaves without a word was not the first: somebody else got the place.
    fn admit_by_port(&mut self) {
        // Whoever brought one meanwhile has closed the port.
        let Some(Ok((mut connection, _))) = self.port.as_ref().map(TcpListener::accept) else {
            return;
        };
        let welcomed = connection
            .set_nodelay(true)
            .and_then(|()| connection.set_nonblocking(true))
            .and_then(|()| connection.write_all(&[WELCOME]));
        let twice = connection.try_clone();
        if let (Ok(()), Ok(again)) = (welcomed, twice) {
            let (input, output) = (connection.into(), again.into());
            self.await_word(Brought { input, output, _besides: Vec::new() });
        }
    }

    /// Hears who brings another stream, which counts if it says what nobody else knows.
    fn hear_candidate(&mut self) {
        let Some(mut candidate) = self.candidate.take() else { return };
        let mut buffer = [0; 4096];
        match descriptor::read(candidate.brought.input.as_fd(), &mut buffer) {
            Ok(read @ 1..) => candidate.said.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
        let Some(key) = self.session.key() else {
            return match candidate.said.is_empty() {
                true => self.candidate = Some(candidate),
                false => self.take_up(candidate.brought, &candidate.said),
            };
        };
        match claim(&candidate.said, &key) {
            Ok(Claim::Unheard) => self.candidate = Some(candidate),
            Ok(Claim::Same) => self.take_up(candidate.brought, &candidate.said),
            // The place is to be another's, who comes again when nothing of this is left.
            Ok(Claim::Successor) => {
                self.stream = None;
                self.until = Some(Instant::now());
            }
            Ok(Claim::Stranger) | Err(_) => {}
        }
    }

    /// Goes on with another stream, on which this was `said` already.
    fn take_up(&mut self, brought: Brought, said: &[u8]) {
        self.session.begin();
        self.stream = Some(brought);
        self.port = None;
        if !self.ended {
            self.until = None;
        }
        if !self.hear(said) {
            self.cut();
        }
    }

    fn hear_stream(&mut self) -> bool {
        let mut buffer = [0; LONGEST];
        let Some(stream) = &self.stream else { return true };
        match descriptor::read(stream.input.as_fd(), &mut buffer) {
            Ok(read @ 1..) => self.hear(&buffer[..read]),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }

    /// Takes what came by the stream. Returns false if it is of no more use.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        let Ok(all) = self.session.hear(bytes) else { return false };
        for said in all {
            match said {
                Said::Data(bytes) if !self.ended => self.pending.extend(bytes),
                // The agent sees it once it has taken what came before.
                Said::End => self.closing = true,
                Said::Data(_) | Said::Words(_) => {}
            }
        }
        true
    }

    fn tell_stream(&mut self) -> bool {
        let Some(stream) = &self.stream else { return true };
        match descriptor::write(stream.output.as_fd(), self.session.outgoing()) {
            Ok(written) => {
                self.session.wrote(written);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// The stream is of no more use, and another may come.
    fn cut(&mut self) {
        self.stream = None;
        if !self.kept || self.ended {
            self.until = Some(Instant::now() + ABSENCE);
        }
    }
}

#[cfg(test)]
mod tests;
