//! The stream, with what waits at its two ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::{self, Interest, Kind};

use crate::error::MuxError;
use crate::message::{Address, MAX_MESSAGE, Message, VERSION, put_data};

/// How much may wait to be sent before nothing more is read that would have to be sent, in bytes.
const ROOM: usize = 256 << 10;

/// How long what can wait does so for something to go along with. Each message that goes by itself
/// wakes everybody on its way, who may have only one or two processors in common with the command.
const SOON: Duration = Duration::from_millis(2);

/// Messages on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Until when all of them can wait.
    waits_until: Option<Instant>,
    /// Whether nobody takes them any more.
    dead: bool,
}

impl Outbox {
    /// Whether what can wait may be said now. What is said without asking is bounded by what there
    /// is to say it of: each channel ends once.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < ROOM
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn say(&mut self, message: &Message<'_>) {
        self.waits_until = None;
        if !self.dead {
            message.put(&mut self.bytes);
        }
    }

    /// Says what can wait a moment.
    pub fn say_soon(&mut self, message: &Message<'_>) {
        let waits_until = match self.bytes.is_empty() {
            true => Some(Instant::now() + SOON),
            false => self.waits_until,
        };
        self.say(message);
        self.waits_until = waits_until;
    }

    /// How long all of it can wait still, if it can.
    pub fn can_wait(&self) -> Option<Duration> {
        let left = self.waits_until?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// Says data that `read` reads, at most `most` bytes of it. Returns how much that was.
    pub fn say_data(
        &mut self,
        at: Address,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.waits_until = None;
        let said = put_data(&mut self.bytes, at, most, read);
        if self.dead {
            self.bytes.clear();
        }
        said
    }

    /// Sends what can be sent now.
    fn flush(&mut self, to: BorrowedFd<'_>) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match descriptor::write(to, &self.bytes[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= ROOM {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

/// Messages that have arrived, the last of them perhaps in part.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn new() -> Self {
        Self { bytes: vec![0; 4 * MAX_MESSAGE], start: 0, end: 0 }
    }

    /// Reads once. Returns false at the end of the stream.
    fn read(&mut self, from: BorrowedFd<'_>) -> io::Result<bool> {
        // What is left is less than a message, so there is room after this.
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match descriptor::read(from, &mut self.bytes[self.end..]) {
            Ok(read) => {
                self.end += read;
                Ok(read > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            // Of a socket whose other end was closed before it had read all.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next message that is whole.
    pub fn next(&mut self) -> Result<Option<Message<'_>>, MuxError> {
        let mut rest = &self.bytes[self.start..self.end];
        let message = Message::take(&mut rest)?;
        self.start = self.end - rest.len();
        Ok(message)
    }
}

/// One end of a stream.
#[derive(Debug)]
pub struct Stream {
    /// None at its end.
    input: Option<OwnedFd>,
    /// None when nobody takes anything any more.
    output: Option<OwnedFd>,
    pub inbox: Inbox,
    pub outbox: Outbox,
    greeted: bool,
}

impl Stream {
    /// Greets the other end. Both descriptors must be nobody else's, for they are made not to wait.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        for fd in [&input, &output] {
            descriptor::set_nonblocking(fd.as_fd())?;
            if descriptor::kind(fd.as_fd())? == Kind::Pipe {
                descriptor::widen(fd.as_fd());
            }
        }
        let mut outbox = Outbox::default();
        outbox.say(&Message::Hello { version: VERSION });
        let (input, output) = (Some(input), Some(output));
        Ok(Self { input, output, inbox: Inbox::new(), outbox, greeted: false })
    }

    pub fn input(&self) -> Interest<'_> {
        self.input.as_ref().map_or(Interest::none(), |input| Interest::readable(input.as_fd()))
    }

    pub fn output(&self) -> Interest<'_> {
        match &self.output {
            None => Interest::none(),
            Some(output) if self.has_nothing_to_send() => Interest::gone(output.as_fd()),
            Some(output) => Interest::writable(output.as_fd()),
        }
    }

    fn has_nothing_to_send(&self) -> bool {
        self.outbox.bytes.is_empty() || self.outbox.can_wait().is_some()
    }

    /// Reads what there is. Returns false at the end of the stream.
    pub fn read(&mut self) -> Result<bool, MuxError> {
        let Some(input) = &self.input else { return Ok(false) };
        let going = self.inbox.read(input.as_fd()).map_err(MuxError::Stream)?;
        if !going {
            self.input = None;
        }
        Ok(going)
    }

    /// As [`flush`](Self::flush), when a poll has found the output ready.
    pub fn write(&mut self) -> bool {
        if self.has_nothing_to_send() {
            // It was woken by nothing but the end of whoever takes it.
            self.give_up();
        }
        self.flush()
    }

    /// Sends what can be sent now. Returns false when nobody takes anything any more; what has been
    /// sent by the other end before may be there to be read all the same.
    pub fn flush(&mut self) -> bool {
        let Some(output) = &self.output else { return false };
        if self.outbox.can_wait().is_some() {
            return true;
        }
        let sent = self.outbox.flush(output.as_fd());
        if sent.is_err() {
            self.give_up();
        }
        sent.is_ok()
    }

    /// Notes that nobody takes anything any more.
    pub fn give_up(&mut self) {
        self.output = None;
        self.outbox = Outbox { dead: true, ..Outbox::default() };
    }

    /// Ends both ways.
    pub fn close(&mut self) {
        self.give_up();
        self.input = None;
    }

    /// Hears the hello, without which nothing else is heard. Returns whether `message` was one.
    pub fn hear_hello(&mut self, message: &Message<'_>) -> Result<bool, MuxError> {
        match *message {
            Message::Hello { version: VERSION } if !self.greeted => {
                self.greeted = true;
                Ok(true)
            }
            Message::Hello { .. } if self.greeted => Err(MuxError::Rules("it said hello twice")),
            Message::Hello { version } => Err(MuxError::Version(version)),
            _ if self.greeted => Ok(false),
            _ => Err(MuxError::Rules("it did not say hello")),
        }
    }
}

#[cfg(test)]
mod tests {
    use agentkernel_sys::socket;

    use super::*;

    #[test]
    fn what_can_wait_goes_along_with_what_comes_next_or_by_itself_soon() {
        let (ours, theirs) = socket::pair().unwrap();
        let mut stream = Stream::new(ours.try_clone().unwrap(), ours).unwrap();
        descriptor::set_nonblocking(theirs.as_fd()).unwrap();
        let heard = || descriptor::read(theirs.as_fd(), &mut [0; 100]).unwrap_or_default();
        assert!(stream.flush() && heard() > 0, "a hello");
        let message = Message::Close { link: 1 };
        let mut bytes = Vec::new();
        message.put(&mut bytes);

        stream.outbox.say_soon(&message);
        // On a busy machine it may be later already.
        let until = stream.outbox.waits_until.as_mut().unwrap();
        *until += Duration::from_secs(60);
        assert!(stream.flush() && stream.has_nothing_to_send());
        assert_eq!(heard(), 0);
        stream.outbox.say(&message);
        assert!(stream.flush());
        assert_eq!(heard(), 2 * bytes.len());

        stream.outbox.say(&message);
        stream.outbox.say_soon(&message);
        assert!(stream.flush());
        assert_eq!(heard(), 2 * bytes.len());

        stream.outbox.say_soon(&message);
        descriptor::poll(&mut [], stream.outbox.can_wait().or(Some(Duration::ZERO))).unwrap();
        assert!(stream.flush());
        assert_eq!(heard(), bytes.len());
    }
}
