//! What an engine says.

use std::ffi::CString;
use std::time::Duration;

use agentkernel_core::{Access, Attachment, Process};

use crate::FrameError;
use crate::body::{Body, micros};
use crate::frame::LongFrame;
use crate::message::{CommandId, LAST_SIGNAL};

/// What an engine asks of an agent. An agent of a single command knows only the first two.
///
/// To everything but `Signal`, `Kill`, `Start` and `Carry` the agent answers `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToAgent {
    /// Send this signal, 1 to 64, to the command's process. A command that has ended is no error.
    Signal { command: CommandId, signal: u8 },
    /// Kill the command's process group.
    Kill { command: CommandId },
    /// Start a command. Its streams come along: standard input, output and error, none if it gets
    /// a terminal; of a command in the background, the two files of its log and that of its end. The
    /// code of a module comes behind them.
    Start { command: CommandId, start: Box<Start> },
    /// Send this signal to the process group of the background command `number`.
    Background { command: CommandId, number: u32, signal: u8 },
    /// Go on when the link that the place was made with is closed.
    Release { command: CommandId },
    /// Say which background commands run.
    List { command: CommandId },
    /// Send this signal to everything inside.
    All { command: CommandId, signal: u8 },
    /// Hand over the place's root directory, as a place to look from.
    Root { command: CommandId },
    /// Hand over the place's user namespace.
    UserNamespace { command: CommandId },
    /// Stop everything inside from running.
    Pause { command: CommandId },
    /// Let it run again.
    Unpause { command: CommandId },
    /// Stop everything inside from running, and hear nobody else, until this link closes.
    Hold { command: CommandId },
    /// Ask everything inside to end, kill what is left after `grace`, and end the place.
    Stop { command: CommandId, grace: Duration },
    /// Add something to a place in which nothing has run yet.
    Attach { command: CommandId, attachment: Attachment },
    /// Carry files, by a process of the agent's. Its streams come along: what it reads, what it
    /// writes, and where it reports. It starts, ends and is killed as a command in the foreground.
    Carry { command: CommandId, carry: Carry },
}

/// Files that are to be carried, as an archive over a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    pub way: Way,
    /// Whether a link at the path's end means what it leads to.
    pub follow: bool,
    /// Whom new files belong to.
    pub uid: u32,
    pub gid: u32,
    pub path: CString,
}

/// Which way files go, and what of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// An archive is unpacked in the directory at the path.
    ArchiveIn,
    /// What is at the path is packed as an archive.
    ArchiveOut,
    /// A file or a directory becomes the path, or something in it.
    CopyIn,
    /// What is in a directory goes into the path.
    ContentsIn,
    /// What is at the path is packed with all that a copy keeps.
    CopyOut,
    /// The layer of this name, of those that the place keeps, is packed with all that an overlay has.
    LayerOut,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::ArchiveIn,
        Self::ArchiveOut,
        Self::CopyIn,
        Self::ContentsIn,
        Self::CopyOut,
        Self::LayerOut,
    ];
}

/// A command, and how it relates to its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub process: Process,
    /// The rows and columns of the terminal that it gets.
    pub terminal: Option<(u16, u16)>,
    pub role: Role,
}

/// How a command relates to its place and to who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is killed when its link closes.
    Foreground,
    /// The place ends with it, or when the link closes. The end is told when all else is dead.
    Only,
    /// It goes on without its link, under a number of the place's that nobody else has, at most for
    /// the time limit. Its end is written to its log.
    Background { number: u32, time_limit: Option<Duration> },
}

const SIGNAL: u8 = 64;
const KILL: u8 = 65;
const START: u8 = 66;
const BACKGROUND: u8 = 67;
const LIST: u8 = 68;
const ALL: u8 = 69;
const ROOT: u8 = 70;
const PAUSE: u8 = 71;
const UNPAUSE: u8 = 72;
const STOP: u8 = 73;
const MOUNT: u8 = 74;
const USER: u8 = 75;
const RELEASE: u8 = 77;
const USER_NAMESPACE: u8 = 78;
const HOLD: u8 = 79;
const CARRY: u8 = 80;

/// Of [`Start`], one bit each.
mod flag {
    pub const NO_SETUID_FILES: u8 = 1;
    pub const TERMINAL: u8 = 2;
    pub const TIME_LIMIT: u8 = 4;
    pub const MODULE: u8 = 8;
    pub const ALL: u8 = NO_SETUID_FILES | TERMINAL | TIME_LIMIT | MODULE;
}

const FOREGROUND: u8 = 0;
const ONLY: u8 = 1;
const IN_BACKGROUND: u8 = 2;

impl ToAgent {
    /// The frame as it goes over the link. Fails if it is too long for one, as a command with too
    /// many or too long arguments and variables.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let frame = |kind, command: CommandId| {
            let mut frame = LongFrame::new(kind);
            frame.put(&command.to_le_bytes());
            frame
        };
        let with = |kind, command, bytes: &[u8]| {
            let mut frame = frame(kind, command);
            frame.put(bytes);
            frame
        };
        match self {
            Self::Signal { command, signal } => with(SIGNAL, *command, &[*signal]),
            Self::Kill { command } => frame(KILL, *command),
            Self::Start { command, start } => {
                let mut frame = frame(START, *command);
                start.put(&mut frame);
                frame
            }
            Self::Background { command, number, signal } => {
                let mut frame = with(BACKGROUND, *command, &number.to_le_bytes());
                frame.put(&[*signal]);
                frame
            }
            Self::Release { command } => frame(RELEASE, *command),
            Self::List { command } => frame(LIST, *command),
            Self::All { command, signal } => with(ALL, *command, &[*signal]),
            Self::Root { command } => frame(ROOT, *command),
            Self::UserNamespace { command } => frame(USER_NAMESPACE, *command),
            Self::Pause { command } => frame(PAUSE, *command),
            Self::Unpause { command } => frame(UNPAUSE, *command),
            Self::Hold { command } => frame(HOLD, *command),
            Self::Carry { command, carry } => {
                let mut frame = with(CARRY, *command, &[carry.way as u8, u8::from(carry.follow)]);
                frame.put(&carry.uid.to_le_bytes());
                frame.put(&carry.gid.to_le_bytes());
                frame.put(carry.path.to_bytes_with_nul());
                frame
            }
            Self::Stop { command, grace } => with(STOP, *command, &micros(*grace).to_le_bytes()),
            Self::Attach { command, attachment } => match attachment {
                Attachment::Mount { target, access, directory, make_place } => {
                    let access = match access {
                        Access::ReadOnly => 0,
                        Access::ReadWrite => 1,
                        Access::CopyOnWrite => 2,
                    };
                    let flags = [access, u8::from(*directory), u8::from(*make_place)];
                    let mut frame = with(MOUNT, *command, &flags);
                    frame.put(target.to_bytes_with_nul());
                    frame
                }
                Attachment::User { uid, gid, home, passwd, group } => {
                    let mut frame = with(USER, *command, &uid.to_le_bytes());
                    frame.put(&gid.to_le_bytes());
                    for text in [home, passwd, group] {
                        frame.put(text.to_bytes_with_nul());
                    }
                    frame
                }
            },
        }
        .into_bytes()
    }

    /// Reads a frame's kind and body; for [`LongDecoder::next`](crate::LongDecoder).
    pub fn parse(kind: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut body = Body::new(kind, body);
        let command = u32::from_le_bytes(body.take()?);
        let message = match kind {
            SIGNAL => Self::Signal { command, signal: signal(&mut body)? },
            KILL => Self::Kill { command },
            START => Self::Start { command, start: Box::new(Start::take(&mut body)?) },
            BACKGROUND => {
                let number = u32::from_le_bytes(body.take()?);
                Self::Background { command, number, signal: signal(&mut body)? }
            }
            RELEASE => Self::Release { command },
            LIST => Self::List { command },
            ALL => Self::All { command, signal: signal(&mut body)? },
            ROOT => Self::Root { command },
            USER_NAMESPACE => Self::UserNamespace { command },
            PAUSE => Self::Pause { command },
            UNPAUSE => Self::Unpause { command },
            HOLD => Self::Hold { command },
            STOP => Self::Stop { command, grace: body.take_time()? },
            MOUNT => {
                let [access, directory, make_place] = body.take()?;
                let access = match access {
                    0 => Access::ReadOnly,
                    1 => Access::ReadWrite,
                    2 => Access::CopyOnWrite,
                    _ => return body.wrong(),
                };
                if directory > 1 || make_place > 1 {
                    return body.wrong();
                }
                let (directory, make_place) = (directory == 1, make_place == 1);
                let target = body.take_string()?;
                let attachment = Attachment::Mount { target, access, directory, make_place };
                Self::Attach { command, attachment }
            }
            CARRY => {
                let [way, follow] = body.take()?;
                let (Some(way), 0 | 1) = (Way::ALL.get(usize::from(way)), follow) else {
                    return body.wrong();
                };
                let carry = Carry {
                    way: *way,
                    follow: follow == 1,
                    uid: u32::from_le_bytes(body.take()?),
                    gid: u32::from_le_bytes(body.take()?),
                    path: body.take_string()?,
                };
                Self::Carry { command, carry }
            }
            USER => {
                let attachment = Attachment::User {
                    uid: u32::from_le_bytes(body.take()?),
                    gid: u32::from_le_bytes(body.take()?),
                    home: body.take_string()?,
                    passwd: body.take_string()?,
                    group: body.take_string()?,
                };
                Self::Attach { command, attachment }
            }
            _ => return Err(FrameError::Kind(kind)),
        };
        body.end(message)
    }
}

fn signal(body: &mut Body<'_>) -> Result<u8, FrameError> {
    match body.take()? {
        [signal @ 1..=LAST_SIGNAL] => Ok(signal),
        _ => body.wrong(),
    }
}

impl Start {
    fn put(&self, frame: &mut LongFrame) {
        let Self { process, terminal, role } = self;
        let (kind, number, time_limit) = match role {
            Role::Foreground => (FOREGROUND, 0, None),
            Role::Only => (ONLY, 0, None),
            Role::Background { number, time_limit } => (IN_BACKGROUND, *number, *time_limit),
        };
        let mut flags = 0;
        for (set, flag) in [
            (process.no_setuid_files, flag::NO_SETUID_FILES),
            (terminal.is_some(), flag::TERMINAL),
            (time_limit.is_some(), flag::TIME_LIMIT),
            (process.is_module, flag::MODULE),
        ] {
            flags |= if set { flag } else { 0 };
        }
        frame.put(&[flags, kind]);
        frame.put(&number.to_le_bytes());
        frame.put(&micros(time_limit.unwrap_or_default()).to_le_bytes());
        let (rows, columns) = terminal.unwrap_or_default();
        frame.put(&rows.to_le_bytes());
        frame.put(&columns.to_le_bytes());
        frame.put(&process.uid.to_le_bytes());
        frame.put(&process.gid.to_le_bytes());
        frame.put(process.directory.to_bytes_with_nul());
        let Process { programs, argv, environment, writable, .. } = process;
        for strings in [programs, argv, environment, writable] {
            frame.put(&u32::try_from(strings.len()).unwrap_or(u32::MAX).to_le_bytes());
            strings.iter().for_each(|string| frame.put(string.to_bytes_with_nul()));
        }
    }

    fn take(body: &mut Body<'_>) -> Result<Self, FrameError> {
        let [flags, kind] = body.take()?;
        let number = u32::from_le_bytes(body.take()?);
        let time_limit = body.take_time()?;
        let size = (u16::from_le_bytes(body.take()?), u16::from_le_bytes(body.take()?));
        let has = |flag| flags & flag != 0;
        // What a flag or a role leaves out has one form only.
        let unused = (kind != IN_BACKGROUND && number != 0)
            || (!has(flag::TIME_LIMIT) && !time_limit.is_zero())
            || (!has(flag::TERMINAL) && size != (0, 0))
            || (kind != IN_BACKGROUND && has(flag::TIME_LIMIT));
        if flags & !flag::ALL != 0 || unused {
            return body.wrong();
        }
        let time_limit = has(flag::TIME_LIMIT).then_some(time_limit);
        let role = match kind {
            FOREGROUND => Role::Foreground,
            ONLY => Role::Only,
            IN_BACKGROUND => Role::Background { number, time_limit },
            _ => return body.wrong(),
        };
        let (uid, gid) = (u32::from_le_bytes(body.take()?), u32::from_le_bytes(body.take()?));
        let directory = body.take_string()?;
        let process = Process {
            is_module: has(flag::MODULE),
            programs: body.take_strings()?,
            argv: body.take_strings()?,
            environment: body.take_strings()?,
            writable: body.take_strings()?,
            directory,
            uid,
            gid,
            no_setuid_files: has(flag::NO_SETUID_FILES),
        };
        Ok(Self { process, terminal: has(flag::TERMINAL).then_some(size), role })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;
    use crate::LongDecoder;

    fn strings(texts: &[&str]) -> Vec<CString> {
        texts.iter().map(|text| CString::new(*text).unwrap()).collect()
    }

    fn start(role: Role, terminal: Option<(u16, u16)>) -> ToAgent {
        let process = Process {
            programs: strings(&["/bin/sh", "/usr/bin/sh"]),
            is_module: terminal.is_some(),
            argv: strings(&["sh", "-c", "", "echo \u{e9}"]),
            environment: strings(&["A=b", "EMPTY="]),
            directory: c"/home/agent".into(),
            uid: 1000,
            gid: u32::MAX,
            writable: strings(&["/tmp"]),
            no_setuid_files: true,
        };
        ToAgent::Start { command: 7, start: Box::new(Start { process, terminal, role }) }
    }

    fn carry(way: Way, follow: bool) -> ToAgent {
        let carry = Carry { way, follow, uid: 1000, gid: 7, path: c"/home/agent".into() };
        ToAgent::Carry { command: 3, carry }
    }

    #[test]
    fn a_way_has_one_number() {
        for (number, way) in Way::ALL.into_iter().enumerate() {
            assert_eq!(way as usize, number);
        }
    }

    fn messages() -> Vec<ToAgent> {
        let limit = Some(Duration::from_millis(1));
        let mount = Attachment::Mount {
            target: c"srv/x".into(),
            access: Access::CopyOnWrite,
            directory: true,
            make_place: false,
        };
        let user = Attachment::User {
            uid: 7,
            gid: 8,
            home: c"root".into(),
            passwd: c"root:x:0:0::/root:/bin/sh\n".into(),
            group: c"".into(),
        };
        vec![
            ToAgent::Signal { command: 0, signal: 64 },
            ToAgent::Kill { command: u32::MAX },
            start(Role::Foreground, Some((24, 80))),
            start(Role::Only, None),
            start(Role::Background { number: 3, time_limit: limit }, None),
            start(Role::Background { number: 0, time_limit: None }, None),
            ToAgent::Background { command: 1, number: 2, signal: 1 },
            ToAgent::Release { command: 1 },
            ToAgent::List { command: 1 },
            ToAgent::All { command: 1, signal: 9 },
            ToAgent::Root { command: 1 },
            ToAgent::UserNamespace { command: 1 },
            ToAgent::Pause { command: 1 },
            ToAgent::Unpause { command: 1 },
            ToAgent::Hold { command: 1 },
            ToAgent::Stop { command: 1, grace: Duration::from_secs(10) },
            ToAgent::Attach { command: 1, attachment: mount },
            ToAgent::Attach { command: 1, attachment: user },
            carry(Way::ArchiveIn, false),
            carry(Way::CopyOut, true),
        ]
    }

    #[test]
    fn orders_survive_any_cutting_of_the_stream() {
        let stream: Vec<u8> = messages().iter().flat_map(|m| m.encode().unwrap()).collect();
        for cut in 1..=stream.len() {
            let mut decoder = LongDecoder::default();
            let mut seen = Vec::new();
            for mut chunk in stream.chunks(cut) {
                while let Some(message) = decoder.next(&mut chunk, ToAgent::parse).unwrap() {
                    seen.push(message);
                }
                assert!(chunk.is_empty());
            }
            assert_eq!(seen, messages(), "cut into pieces of {cut}");
        }
    }

    #[test]
    fn an_order_that_is_cut_short_or_goes_on_is_refused() {
        for message in messages() {
            let frame = message.encode().unwrap();
            let (kind, body) = (frame[4], &frame[5..]);
            for len in 0..body.len() {
                assert!(ToAgent::parse(kind, &body[..len]).is_err(), "{message:?} {len}");
            }
            let longer = [body, &[0]].concat();
            assert!(ToAgent::parse(kind, &longer).is_err(), "{message:?}");
        }
    }

    #[test]
    fn a_command_that_is_too_long_is_no_frame() {
        let ToAgent::Start { command, mut start } = start(Role::Only, None) else { unreachable!() };
        start.process.argv.push(CString::new(vec![b'x'; crate::MAX_LONG_FRAME]).unwrap());
        let got = ToAgent::Start { command, start }.encode();
        assert!(matches!(got, Err(FrameError::Length { .. })), "{got:?}");
    }

    #[test]
    fn signals_that_do_not_exist_are_refused() {
        for signal in [0, 65, 255] {
            let body = [0, 0, 0, 0, signal];
            assert_eq!(ToAgent::parse(SIGNAL, &body), Err(FrameError::Value(SIGNAL)));
        }
    }

    #[test]
    fn a_count_of_strings_that_cannot_be_makes_no_room() {
        let frame = start(Role::Only, None).encode().unwrap();
        let mut body = frame[5..].to_vec();
        let programs = body.windows(11).position(|w| w == b"/home/agent").unwrap() + 12;
        body[programs..programs + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(ToAgent::parse(START, &body), Err(FrameError::Body { .. })));
    }
}
