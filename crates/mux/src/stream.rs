//! The stream, with what waits at its two ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_sys::descriptor::{self, Interest, Kind};

use crate::error::MuxError;
use crate::message::{Address, MAX_MESSAGE, Message, VERSION, put_data};

/// How much may wait to be sent before nothing more is read that would have to be sent, in bytes.
const ROOM: usize = 256 << 10;

/// Messages on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
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
        if !self.dead {
            message.put(&mut self.bytes);
        }
    }

    /// Says data that `read` reads, at most `most` bytes of it. Returns how much that was.
    pub fn say_data(
        &mut self,
        at: Address,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
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
            Some(output) if self.outbox.bytes.is_empty() => Interest::gone(output.as_fd()),
            Some(output) => Interest::writable(output.as_fd()),
        }
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
        if self.outbox.bytes.is_empty() {
            // It was woken by nothing but the end of whoever takes it.
            self.give_up();
        }
        self.flush()
    }

    /// Sends what can be sent now. Returns false when nobody takes anything any more; what has been
    /// sent by the other end before may be there to be read all the same.
    pub fn flush(&mut self) -> bool {
        let Some(output) = &self.output else { return false };
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
