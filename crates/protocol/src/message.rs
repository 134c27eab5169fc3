//! What an agent says.

use std::time::Duration;

use crate::body::{Body, frame, micros};
use crate::{Frame, FrameError};

/// The version of this protocol. A peer of another version is refused at its hello.
pub const VERSION: u16 = 2;

/// Which command, or which other request, a message is about. Numbers are chosen by the engine and
/// hold on their own link only; a command that a place was booted with is number 0.
pub type CommandId = u32;

/// What an agent says. Where it says when something was, `at`, that is on a clock of its own that
/// never goes back: only the time between two such words means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromAgent {
    /// The place is ready for commands. It comes first, once.
    Hello { version: u16, at: Duration },
    /// The place could not be made ready, at this step of the plan it was booted with. It comes
    /// instead of the hello, and nothing follows.
    Unready { step: u16, errno: i32 },
    /// The command has a terminal, whose controlling side comes along. Its start follows.
    Terminal { command: CommandId },
    /// The command's program runs.
    Started { command: CommandId, at: Duration },
    /// The command could not be started; nothing of its program ran.
    NotStarted { command: CommandId, stage: Stage, errno: i32 },
    /// The command's process has ended. Processes that it left behind may still run.
    Ended {
        command: CommandId,
        status: Status,
        at: Duration,
        user: Duration,
        system: Duration,
        max_resident: u64,
    },
    /// The request has been carried out. What was asked for comes along.
    Done { command: CommandId },
    /// The request could not be carried out.
    Failed { command: CommandId, errno: i32 },
    /// A background command runs under this number. More of them may follow, and then `Done`.
    Listed { command: CommandId, number: u32 },
}

/// How a process ended, in the kernel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    Signaled(u8),
}

/// What a command's process was about when it could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// What only this kind of place does: its network, its resource groups.
    Place = 0,
    Session = 1,
    Streams = 2,
    Terminal = 3,
    Limits = 4,
    Identity = 5,
    Directory = 6,
    Privileges = 7,
    Landlock = 8,
    Seccomp = 9,
    Program = 10,
}

impl Stage {
    /// The stage with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Place,
            1 => Self::Session,
            2 => Self::Streams,
            3 => Self::Terminal,
            4 => Self::Limits,
            5 => Self::Identity,
            6 => Self::Directory,
            7 => Self::Privileges,
            8 => Self::Landlock,
            9 => Self::Seccomp,
            10 => Self::Program,
            _ => return None,
        })
    }
}

const HELLO: u8 = 1;
const UNREADY: u8 = 2;
const STARTED: u8 = 3;
const NOT_STARTED: u8 = 4;
const ENDED: u8 = 5;
const TERMINAL: u8 = 6;
const DONE: u8 = 7;
const FAILED: u8 = 8;
const LISTED: u8 = 9;

const EXITED: u8 = 0;
const SIGNALED: u8 = 1;
pub(crate) const LAST_SIGNAL: u8 = 64;

impl FromAgent {
    pub fn encode(&self) -> Frame {
        match *self {
            Self::Hello { version, at } => frame(HELLO, |f| {
                f.put(version.to_le_bytes());
                f.put(micros(at).to_le_bytes());
            }),
            Self::Unready { step, errno } => frame(UNREADY, |f| {
                f.put(step.to_le_bytes());
                f.put(errno.to_le_bytes());
            }),
            Self::Terminal { command } => frame(TERMINAL, |f| f.put(command.to_le_bytes())),
            Self::Started { command, at } => frame(STARTED, |f| {
                f.put(command.to_le_bytes());
                f.put(micros(at).to_le_bytes());
            }),
            Self::NotStarted { command, stage, errno } => frame(NOT_STARTED, |f| {
                f.put(command.to_le_bytes());
                f.put([stage as u8]);
                f.put(errno.to_le_bytes());
            }),
            Self::Ended { command, status, at, user, system, max_resident } => frame(ENDED, |f| {
                f.put(command.to_le_bytes());
                match status {
                    Status::Exited(code) => f.put([EXITED, code]),
                    Status::Signaled(signal) => f.put([SIGNALED, signal]),
                }
                f.put(micros(at).to_le_bytes());
                f.put(micros(user).to_le_bytes());
                f.put(micros(system).to_le_bytes());
                f.put(max_resident.to_le_bytes());
            }),
            Self::Done { command } => frame(DONE, |f| f.put(command.to_le_bytes())),
            Self::Failed { command, errno } => frame(FAILED, |f| {
                f.put(command.to_le_bytes());
                f.put(errno.to_le_bytes());
            }),
            Self::Listed { command, number } => frame(LISTED, |f| {
                f.put(command.to_le_bytes());
                f.put(number.to_le_bytes());
            }),
        }
    }

    /// Reads a frame's kind and body; for [`Decoder::next`](crate::Decoder::next).
    pub fn parse(kind: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut body = Body::new(kind, body);
        let message = match kind {
            HELLO => {
                Self::Hello { version: u16::from_le_bytes(body.take()?), at: body.take_time()? }
            }
            UNREADY => Self::Unready {
                step: u16::from_le_bytes(body.take()?),
                errno: i32::from_le_bytes(body.take()?),
            },
            TERMINAL => Self::Terminal { command: u32::from_le_bytes(body.take()?) },
            STARTED => {
                Self::Started { command: u32::from_le_bytes(body.take()?), at: body.take_time()? }
            }
            NOT_STARTED => Self::NotStarted {
                command: u32::from_le_bytes(body.take()?),
                stage: match body.take()? {
                    [number] => Stage::from_number(number).ok_or(FrameError::Value(kind))?,
                },
                errno: i32::from_le_bytes(body.take()?),
            },
            ENDED => Self::Ended {
                command: u32::from_le_bytes(body.take()?),
                status: match body.take()? {
                    [EXITED, code] => Status::Exited(code),
                    [SIGNALED, signal @ 1..=LAST_SIGNAL] => Status::Signaled(signal),
                    _ => return Err(FrameError::Value(kind)),
                },
                at: body.take_time()?,
                user: body.take_time()?,
                system: body.take_time()?,
                max_resident: u64::from_le_bytes(body.take()?),
            },
            DONE => Self::Done { command: u32::from_le_bytes(body.take()?) },
            FAILED => Self::Failed {
                command: u32::from_le_bytes(body.take()?),
                errno: i32::from_le_bytes(body.take()?),
            },
            LISTED => Self::Listed {
                command: u32::from_le_bytes(body.take()?),
                number: u32::from_le_bytes(body.take()?),
            },
            _ => return Err(FrameError::Kind(kind)),
        };
        body.end(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, MAX_FRAME};

    const ENDING: FromAgent = FromAgent::Ended {
        command: 7,
        status: Status::Signaled(64),
        at: Duration::from_micros(1 << 50),
        user: Duration::from_micros(1_234_567),
        system: Duration::from_micros(3),
        max_resident: 1 << 40,
    };

    fn messages() -> [FromAgent; 10] {
        [
            FromAgent::Hello { version: VERSION, at: Duration::from_micros(9) },
            FromAgent::Unready { step: 65535, errno: -1 },
            FromAgent::Started { command: u32::MAX, at: Duration::from_secs(1 << 30) },
            FromAgent::Terminal { command: 3 },
            FromAgent::NotStarted { command: 0, stage: Stage::Program, errno: 2 },
            ENDING,
            FromAgent::Ended {
                command: 1,
                status: Status::Exited(255),
                at: Duration::ZERO,
                user: Duration::ZERO,
                system: Duration::ZERO,
                max_resident: 0,
            },
            FromAgent::Done { command: 9 },
            FromAgent::Failed { command: 9, errno: 2 },
            FromAgent::Listed { command: 1, number: u32::MAX },
        ]
    }

    #[test]
    fn messages_survive_any_cutting_of_the_stream() {
        let stream: Vec<u8> =
            messages().iter().flat_map(|m| m.encode().as_bytes().to_vec()).collect();
        for cut in 1..=stream.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for mut chunk in stream.chunks(cut) {
                while let Some(message) = decoder.next(&mut chunk, FromAgent::parse).unwrap() {
                    seen.push(message);
                }
                assert!(chunk.is_empty());
            }
            assert_eq!(seen, messages(), "cut into pieces of {cut}");
        }
    }

    #[test]
    fn a_body_that_is_too_short_or_too_long_is_refused() {
        let frame = ENDING.encode();
        let body = &frame.as_bytes()[5..];
        for len in 0..body.len() {
            assert!(FromAgent::parse(ENDED, &body[..len]).is_err(), "{len} bytes were taken");
        }
        let longer = [body, &[0]].concat();
        assert!(FromAgent::parse(ENDED, &longer).is_err());
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_their_body_arrives() {
        for length in [0, MAX_FRAME as u32 - 3, u32::MAX] {
            let bytes = length.to_le_bytes();
            let got = Decoder::default().next(&mut &bytes[..], FromAgent::parse);
            assert_eq!(got, Err(FrameError::Length { length, most: MAX_FRAME - 4 }));
        }
    }

    #[test]
    fn a_stage_has_one_number() {
        for number in 0..=u8::MAX {
            if let Some(stage) = Stage::from_number(number) {
                assert_eq!(stage as u8, number);
            }
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
            let kind = (random() % 10) as u8;
            let body: Vec<u8> = (0..random() % 48).map(|_| (random() % 70) as u8).collect();
            if let Ok(message) = FromAgent::parse(kind, &body) {
                assert_eq!(message.encode().as_bytes()[5..], body);
                decoded += 1;
            }
        }
        assert!(decoded > 1000, "only {decoded} bodies decoded");
    }
}
