//! One execution inside a sandbox, and how it ended.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Access, Image, User};

/// A program to start in a sandbox, never joined into a shell string.
///
/// What it leaves out is as its sandbox's spec has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, at least one; where the image is a module, which is the program,
    /// the arguments alone. No string holds a NUL.
    pub argv: Vec<OsString>,
    /// Whether the image's entrypoint stands before the words, and the image's own command in place of
    /// them where there are none, as container engines have it.
    pub by_image: bool,
    /// Variables over those of the spec.
    pub environment: BTreeMap<OsString, OsString>,
    /// Where it starts, seen from inside.
    pub directory: Option<PathBuf>,
    pub user: Option<User>,
    /// What of a module is to be called instead of what it does as a program, which takes the
    /// arguments as numbers.
    pub function: Option<String>,
    /// How long it may run before it and everything it started is killed.
    pub time_limit: Option<Duration>,
}

impl Command {
    /// Its words where its sandbox has this image, the program first.
    pub fn words<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = &'a OsStr> {
        image.module_name().into_iter().chain(self.argv.iter().map(OsString::as_os_str))
    }
}

/// A command as the agent of a place starts it: names have become numbers, and everything that
/// depends on the place's image has been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Where the program may be, in the order of trying.
    pub programs: Vec<CString>,
    /// Whether the program is a module, whose code comes along as a descriptor behind the streams. Then
    /// `programs` is the function to call, if it is not to do what it does as a program.
    pub is_module: bool,
    pub argv: Vec<CString>,
    /// `NAME=VALUE`, each name once.
    pub environment: Vec<CString>,
    /// Where it starts, seen from inside.
    pub directory: CString,
    /// Seen from inside, as all numbers here.
    pub uid: u32,
    pub gid: u32,
    /// Below which directories it may write; everywhere if there are none.
    pub writable: Vec<CString>,
    /// Whether it may give files no setuid and setgid bits, since what it makes stays on the host.
    pub no_setuid_files: bool,
}

/// What an image says of the commands that run in it, under what its user says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// What stands before the words of a command that is [by the image](Command::by_image).
    pub entrypoint: Vec<String>,
    /// The words of one that has none.
    pub command: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    pub directory: Option<PathBuf>,
    /// As whom they run, `USER[:GROUP]`, each a name or a number.
    pub user: Option<String>,
    /// Its users and groups, in the form of `/etc/passwd` and `/etc/group`.
    pub passwd: String,
    pub group: String,
    /// Whether its users are the host's own, and the caller, who is not root, is but one of them.
    pub hosts_users: bool,
    /// Whether the caller is the only one then, whatever the image says: folders of the caller's are
    /// shown.
    pub only_caller: bool,
}

/// What can be added to a place that is in use for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A tree, which comes along, to be shown at `target`.
    Mount {
        /// Relative to the root.
        target: CString,
        access: Access,
        directory: bool,
        /// Whether a place for it may be made in the root.
        make_place: bool,
    },
    /// Another user for whom the place is.
    User {
        uid: u32,
        gid: u32,
        /// Relative to the root.
        home: CString,
        /// The users that there are, in the form of `/etc/passwd`; empty if the image says.
        passwd: CString,
        group: CString,
    },
}

/// What a command's standard streams are connected to.
#[derive(Debug)]
pub enum Stdio {
    /// Standard input, output and error. Only pipes, sockets and `/dev/null` may be handed over:
    /// anything else could be reopened through `/proc/self/fd` with more rights than it carries.
    Streams([OwnedFd; 3]),
    /// A terminal of the sandbox's own, `rows` by `columns` characters; the agent hands its
    /// controlling side over the link.
    Terminal { rows: u16, columns: u16 },
}

/// How a command finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status, 0 to 255.
    Exited(u8),
    /// This signal killed it.
    Signaled(u8),
    /// It was killed because it ran longer than its time limit.
    TimedOut,
    /// It was killed because its sandbox ran out of memory.
    OutOfMemory,
    /// agentkernel killed it, because somebody asked for that.
    Killed,
    /// Nobody knows; the sandbox went away underneath.
    Lost(String),
}

impl Ended {
    /// The exit status that stands for this ending, by the conventions of shells, `timeout` and
    /// Docker: the command's own, 128 + n for signal n, 124 for a time-out, 137 for a kill, and
    /// 125 where agentkernel itself can't tell.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            // Real-time signals end at 64, so this never overflows.
            Self::Signaled(signal) => 128_u8.saturating_add(*signal),
            Self::TimedOut => 124,
            Self::OutOfMemory | Self::Killed => 137,
            Self::Lost(_) => 125,
        }
    }
}
