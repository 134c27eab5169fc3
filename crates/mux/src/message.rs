//! What the two sides say to each other over the stream.
//!
//! A message is a length (4 bytes, little endian: the bytes that follow), a kind (1 byte), the
//! number of a link (8 bytes) and a body. What does not decode exactly ends the stream.

use agentkernel_protocol::{CommandId, MAX_FRAME};

/// The version of what is said here. A peer of another version is refused at its hello.
pub const VERSION: u16 = 1;

/// How many bytes of one direction of one channel may be under way: sent, and not yet taken by
/// whoever they are for.
pub const WINDOW: u32 = 256 << 10;

/// How much beyond that the inner side may send of what a command had written when it ended, or its
/// place may be gone before anybody asks for it. No pipe of an ordinary process holds more.
pub const RESERVE: u32 = 1 << 20;

/// How many bytes of an agent's words may be under way on one link.
pub const WORDS: u32 = 64 << 10;

/// The most bytes of data in one message.
pub const MAX_DATA: usize = 64 << 10;

/// The most bytes of one message, its length included.
pub const MAX_MESSAGE: usize = HEAD + 4 + MAX_DATA;

const LENGTH: usize = 4;
const HEAD: usize = LENGTH + 1 + 8;

/// That this is such a stream, and not, say, the words of a shell that was started by mistake.
const MAGIC: [u8; 8] = *b"ak-links";

/// A link's number. The outer side counts them, and uses none again.
pub type LinkId = u64;

/// A channel's number on its link, likewise. [`FRAMES`] is none of those that carry data.
pub type ChannelId = u32;

/// The channel of a link's own frames: orders one way, words the other.
pub const FRAMES: ChannelId = 0;

/// One channel of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub link: LinkId,
    pub channel: ChannelId,
}

/// The channels of a command's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Standard input, output and error. The last two may share a channel.
    Given([ChannelId; 3]),
    /// A terminal's controlling side, both ways; the agent will hand it over.
    Terminal(ChannelId),
}

/// What must have been delivered before a word is: so many bytes of these channels since their
/// beginning, or [`ALL`]. [`FRAMES`] stands for none.
pub type After = [(ChannelId, u64); 2];

/// All that a channel will ever carry.
pub const ALL: u64 = u64::MAX;

/// A word that needs nothing delivered before it.
pub const AT_ONCE: After = [(FRAMES, 0); 2];

/// What is said. The first message of both sides is `Hello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    Hello {
        version: u16,
    },
    /// From outside: a client has come; connect it to the agent.
    Open {
        link: LinkId,
    },
    /// Nothing more will be said of this link, and nothing more is wanted of it.
    Close {
        link: LinkId,
    },
    /// From outside: the streams of this command go to the agent with the next byte of its orders.
    Streams {
        link: LinkId,
        command: CommandId,
        streams: Streams,
    },
    /// From outside: bytes of a client's orders, of no more than one frame.
    Orders {
        link: LinkId,
        bytes: &'a [u8],
    },
    /// From inside: one whole frame of the agent's.
    Word {
        link: LinkId,
        after: After,
        frame: &'a [u8],
    },
    /// Data of a channel, in its order.
    Data {
        at: Address,
        bytes: &'a [u8],
    },
    /// There will be no more data.
    End {
        at: Address,
    },
    /// No more data will be taken.
    Broken {
        at: Address,
    },
    /// So many bytes have been taken, so that as many more may be sent.
    Credit {
        at: Address,
        bytes: u32,
    },
    /// From outside: the terminal's rows and columns.
    Size {
        at: Address,
        rows: u16,
        columns: u16,
    },
}

const HELLO: u8 = 1;
const OPEN: u8 = 2;
const CLOSE: u8 = 3;
const GIVEN: u8 = 4;
const TERMINAL: u8 = 5;
const ORDERS: u8 = 6;
const WORD: u8 = 7;
const DATA: u8 = 8;
const END: u8 = 9;
const BROKEN: u8 = 10;
const CREDIT: u8 = 11;
const SIZE: u8 = 12;

/// Why bytes are no messages. The stream that carried them is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("a message of {0} bytes")]
    Length(u32),
    #[error("a message of unknown kind {0}")]
    Kind(u8),
    #[error("a message of kind {0} with a body that is none")]
    Body(u8),
    #[error("this is not a stream of links")]
    Magic,
}

impl Message<'_> {
    /// Appends the message as it goes over the stream.
    pub fn put(&self, out: &mut Vec<u8>) {
        let (kind, link) = match *self {
            Self::Hello { .. } => (HELLO, u64::from_le_bytes(MAGIC)),
            Self::Open { link } => (OPEN, link),
            Self::Close { link } => (CLOSE, link),
            Self::Streams { link, streams: Streams::Given(_), .. } => (GIVEN, link),
            Self::Streams { link, streams: Streams::Terminal(_), .. } => (TERMINAL, link),
            Self::Orders { link, .. } => (ORDERS, link),
            Self::Word { link, .. } => (WORD, link),
            Self::Data { at, .. } => (DATA, at.link),
            Self::End { at } => (END, at.link),
            Self::Broken { at } => (BROKEN, at.link),
            Self::Credit { at, .. } => (CREDIT, at.link),
            Self::Size { at, .. } => (SIZE, at.link),
        };
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        out.push(kind);
        out.extend_from_slice(&link.to_le_bytes());
        match *self {
            Self::Hello { version } => out.extend_from_slice(&version.to_le_bytes()),
            Self::Open { .. } | Self::Close { .. } => {}
            Self::Streams { command, streams, .. } => {
                out.extend_from_slice(&command.to_le_bytes());
                match streams {
                    Streams::Given(all) => {
                        all.iter().for_each(|one| out.extend_from_slice(&one.to_le_bytes()));
                    }
                    Streams::Terminal(one) => out.extend_from_slice(&one.to_le_bytes()),
                }
            }
            Self::Orders { bytes, .. } => out.extend_from_slice(bytes),
            Self::Word { after, frame, .. } => {
                for (channel, position) in after {
                    out.extend_from_slice(&channel.to_le_bytes());
                    out.extend_from_slice(&position.to_le_bytes());
                }
                out.extend_from_slice(frame);
            }
            Self::Data { at, bytes } => {
                out.extend_from_slice(&at.channel.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::End { at } | Self::Broken { at } => {
                out.extend_from_slice(&at.channel.to_le_bytes());
            }
            Self::Credit { at, bytes } => {
                out.extend_from_slice(&at.channel.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Self::Size { at, rows, columns } => {
                out.extend_from_slice(&at.channel.to_le_bytes());
                out.extend_from_slice(&rows.to_le_bytes());
                out.extend_from_slice(&columns.to_le_bytes());
            }
        }
        put_length(out, start);
    }
}

impl Message<'_> {
    /// The link that it is about, if it is about one.
    pub fn link(&self) -> Option<LinkId> {
        match *self {
            Self::Hello { .. } => None,
            Self::Open { link }
            | Self::Close { link }
            | Self::Streams { link, .. }
            | Self::Orders { link, .. }
            | Self::Word { link, .. } => Some(link),
            Self::Data { at, .. }
            | Self::End { at }
            | Self::Broken { at }
            | Self::Credit { at, .. }
            | Self::Size { at, .. } => Some(at.link),
        }
    }
}

/// Appends a message of data that `fill` writes, at most `most` bytes; nothing if that is none.
pub fn put_data<E>(
    out: &mut Vec<u8>,
    at: Address,
    most: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    let start = out.len();
    Message::Data { at, bytes: &[] }.put(out);
    let data = out.len();
    out.resize(data + most.min(MAX_DATA), 0);
    let filled = fill(&mut out[data..]);
    match filled {
        Ok(bytes @ 1..) => {
            out.truncate(data + bytes);
            put_length(out, start);
        }
        _ => out.truncate(start),
    }
    filled
}

fn put_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start - LENGTH) as u32;
    out[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
}

impl<'a> Message<'a> {
    /// Takes the first message off `bytes`, if all of it is there.
    pub fn take(bytes: &mut &'a [u8]) -> Result<Option<Self>, MessageError> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if (length as usize) < HEAD - LENGTH || length as usize > MAX_MESSAGE - LENGTH {
            return Err(MessageError::Length(length));
        }
        let Some((message, rest)) = rest.split_at_checked(length as usize) else { return Ok(None) };
        *bytes = rest;
        Self::parse(message).map(Some)
    }

    fn parse(message: &'a [u8]) -> Result<Self, MessageError> {
        let Some((&[kind], body)) = message.split_first_chunk() else {
            return Err(MessageError::Length(0));
        };
        let mut body = Body(body);
        let broken = MessageError::Body(kind);
        let link = u64::from_le_bytes(body.take().ok_or(broken)?);
        if kind == HELLO {
            if link.to_le_bytes() != MAGIC {
                return Err(MessageError::Magic);
            }
            let version = u16::from_le_bytes(body.take().ok_or(broken)?);
            return body.end(Self::Hello { version }).ok_or(broken);
        }
        if !(OPEN..=SIZE).contains(&kind) {
            return Err(MessageError::Kind(kind));
        }
        body.message(kind, link).ok_or(broken)
    }
}

/// A body being read, to its exact end.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*value)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// The number of a channel that carries data.
    fn channel(&mut self) -> Option<ChannelId> {
        self.number().filter(|channel| *channel != FRAMES)
    }

    fn address(&mut self, link: LinkId) -> Option<Address> {
        Some(Address { link, channel: self.channel()? })
    }

    /// The rest, which is something.
    fn rest(&mut self) -> Option<&'a [u8]> {
        let rest = std::mem::take(&mut self.0);
        (!rest.is_empty()).then_some(rest)
    }

    fn end<M>(self, message: M) -> Option<M> {
        self.0.is_empty().then_some(message)
    }

    fn after(&mut self) -> Option<After> {
        let mut after = AT_ONCE;
        for one in &mut after {
            *one = (self.number()?, u64::from_le_bytes(self.take()?));
            // What is left out has one form only.
            if one.0 == FRAMES && one.1 != 0 {
                return None;
            }
        }
        Some(after)
    }

    fn message(mut self, kind: u8, link: LinkId) -> Option<Message<'a>> {
        let message = match kind {
            OPEN => Message::Open { link },
            CLOSE => Message::Close { link },
            GIVEN => {
                let command = self.number()?;
                let all = [self.channel()?, self.channel()?, self.channel()?];
                Message::Streams { link, command, streams: Streams::Given(all) }
            }
            TERMINAL => {
                let command = self.number()?;
                Message::Streams { link, command, streams: Streams::Terminal(self.channel()?) }
            }
            ORDERS => {
                let bytes = self.rest().filter(|bytes| bytes.len() <= MAX_DATA)?;
                Message::Orders { link, bytes }
            }
            WORD => {
                let after = self.after()?;
                let frame = self.rest().filter(|frame| frame.len() <= MAX_FRAME)?;
                Message::Word { link, after, frame }
            }
            DATA => {
                let at = self.address(link)?;
                let bytes = self.rest().filter(|bytes| bytes.len() <= MAX_DATA)?;
                Message::Data { at, bytes }
            }
            END => Message::End { at: self.address(link)? },
            BROKEN => Message::Broken { at: self.address(link)? },
            CREDIT => {
                let at = Address { link, channel: self.number()? };
                Message::Credit { at, bytes: self.number().filter(|bytes| *bytes > 0)? }
            }
            SIZE => Message::Size {
                at: self.address(link)?,
                rows: u16::from_le_bytes(self.take()?),
                columns: u16::from_le_bytes(self.take()?),
            },
            _ => return None,
        };
        self.end(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Address = Address { link: u64::MAX - 1, channel: 7 };

    fn messages() -> Vec<Message<'static>> {
        let link = 3;
        vec![
            Message::Hello { version: VERSION },
            Message::Open { link },
            Message::Close { link },
            Message::Streams { link, command: 9, streams: Streams::Given([1, 2, u32::MAX]) },
            Message::Streams { link, command: 9, streams: Streams::Terminal(4) },
            Message::Orders { link, bytes: b"frame" },
            Message::Word { link, after: [(1, u64::MAX), (FRAMES, 0)], frame: b"word" },
            Message::Data { at: AT, bytes: &[7; MAX_DATA] },
            Message::End { at: AT },
            Message::Broken { at: AT },
            Message::Credit { at: Address { link, channel: FRAMES }, bytes: 1 },
            Message::Size { at: AT, rows: 24, columns: 80 },
        ]
    }

    #[test]
    fn what_is_said_is_heard() {
        let mut stream = Vec::new();
        messages().iter().for_each(|message| message.put(&mut stream));
        let mut rest = &stream[..];
        for message in messages() {
            assert_eq!(Message::take(&mut rest), Ok(Some(message)));
        }
        assert_eq!(Message::take(&mut rest), Ok(None));
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_refused() {
        for message in messages() {
            let mut bytes = Vec::new();
            message.put(&mut bytes);
            for len in 0..bytes.len().min(64) {
                assert_eq!(Message::take(&mut &bytes[..len]), Ok(None), "{message:?}");
            }
            // Whose rest is data takes more of it.
            if matches!(
                message,
                Message::Orders { .. } | Message::Word { .. } | Message::Data { .. }
            ) {
                continue;
            }
            for length in (HEAD - LENGTH)..bytes.len() - LENGTH {
                let mut shorter = bytes[..LENGTH + length].to_vec();
                put_length(&mut shorter, 0);
                assert!(Message::take(&mut &shorter[..]).is_err(), "{message:?}, {length}");
            }
            bytes.push(0);
            put_length(&mut bytes, 0);
            assert!(Message::take(&mut &bytes[..]).is_err(), "{message:?}");
        }
    }

    /// Every byte string either fails or decodes to a message that encodes to the same bytes.
    #[test]
    fn what_decodes_is_exactly_what_was_said() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut decoded = 0;
        for _ in 0..200_000 {
            let body: Vec<u8> = (0..random() % 48).map(|_| (random() % 3) as u8).collect();
            let kind = (random() % 14) as u8;
            let mut bytes = vec![0; LENGTH];
            bytes.push(kind);
            bytes.extend(body);
            put_length(&mut bytes, 0);
            let mut rest = &bytes[..];
            if let Ok(Some(message)) = Message::take(&mut rest) {
                assert!(rest.is_empty());
                let mut again = Vec::new();
                message.put(&mut again);
                assert_eq!(again, bytes, "{message:?}");
                decoded += 1;
            }
        }
        assert!(decoded > 1000, "only {decoded} messages decoded");
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_their_body_arrives() {
        for length in [0, 8, (MAX_MESSAGE - LENGTH + 1) as u32, u32::MAX] {
            let bytes = length.to_le_bytes();
            assert_eq!(Message::take(&mut &bytes[..]), Err(MessageError::Length(length)));
        }
    }

    #[test]
    fn data_that_could_not_be_read_is_not_said() {
        let mut out = vec![1];
        assert_eq!(put_data(&mut out, AT, 9, |_| Err(5)), Err(5));
        assert_eq!(put_data(&mut out, AT, 9, |_| Ok::<_, ()>(0)), Ok(0));
        assert_eq!(out, [1]);
        let read = put_data(&mut out, AT, 9, |room| {
            room[0] = 8;
            Ok::<_, ()>(1)
        });
        assert_eq!(read, Ok(1));
        let said = Message::take(&mut &out[1..]);
        assert_eq!(said, Ok(Some(Message::Data { at: AT, bytes: &[8] })));
    }
}
