//! From a copy of the agent to the command's program.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use agentkernel_core::{Process, Stdio};
use agentkernel_protocol::{CommandId, FromAgent, Stage, Status};
use agentkernel_sys::process::{ExecStrings, FileAtMount};
use agentkernel_sys::rlimit::Resource;
use agentkernel_sys::seccomp::{Filter, Policy};
use agentkernel_sys::{descriptor, identity, landlock, process, rlimit, signal, socket, terminal};

use crate::agent::say_that_it_runs;
use crate::module::HANDLED;
use crate::{Module, Modules};

/// A command with everything that starting it takes.
#[derive(Debug)]
pub struct Prepared {
    programs: Vec<CString>,
    argv: ExecStrings,
    environment: ExecStrings,
    directory: CString,
    uid: u32,
    gid: u32,
    writable: Vec<CString>,
    no_setuid_files: bool,
    streams: Streams,
    /// The program, if it is a module.
    code: Option<OwnedFd>,
}

/// What a place has all its commands do before their programs run. No new privileges and no
/// capabilities go without saying.
#[derive(Debug)]
pub struct Rules {
    /// Whether the place lets its processes set their groups, so that the caller's can be dropped.
    pub drop_groups: bool,
    pub limits: Vec<ResourceLimit>,
    pub filters: Filters,
    /// The version of Landlock that each command is to use, if the kernel has it and the place
    /// isn't under it as a whole.
    pub landlock: Option<u32>,
    /// How modules are run, if that is what commands are.
    pub modules: Option<Modules>,
}

/// The system call filters that commands of a place may need, made ahead.
#[derive(Debug)]
pub struct Filters(Vec<(Policy, Filter)>);

impl Filters {
    pub fn new(policies: &[Policy]) -> Self {
        Self(policies.iter().map(|policy| (*policy, Filter::new(*policy))).collect())
    }

    /// The same, but that none of them has sockets of the internet's.
    pub fn without_internet(policies: &[Policy]) -> Self {
        let filter = |policy: &Policy| Filter::new(Policy { no_internet: true, ..*policy });
        Self(policies.iter().map(|policy| (*policy, filter(policy))).collect())
    }

    fn install(&self, wanted: Policy) -> io::Result<()> {
        let found = self.0.iter().find(|(policy, _)| *policy == wanted);
        found.ok_or(io::ErrorKind::NotFound)?.1.install()
    }
}

/// What the command's standard streams are.
#[derive(Debug)]
pub enum Streams {
    Given([OwnedFd; 3]),
    /// A terminal of the place's own, from the devpts at `/dev/pts`.
    Terminal {
        rows: u16,
        columns: u16,
    },
}

/// A limit for each process, which is not raised above the agent's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    pub resource: Resource,
    pub soft: u64,
    pub hard: u64,
}

/// Where a start failed, and why.
pub(crate) type Failure = (Stage, io::Error);

impl Prepared {
    /// One whose program is a module comes with its `code`.
    pub fn new(process: Process, streams: Streams, code: Option<OwnedFd>) -> Self {
        let Process { programs, argv, environment, directory, uid, gid, .. } = process;
        let Process { writable, no_setuid_files, .. } = process;
        let (argv, environment) = (ExecStrings::new(argv), ExecStrings::new(environment));
        Self {
            programs,
            argv,
            environment,
            directory,
            uid,
            gid,
            writable,
            no_setuid_files,
            streams,
            code,
        }
    }

    /// Does all that needs no root file system yet: streams, then what [`settle`] does, and the
    /// filter, which allows what is left to do. Of all other descriptors only `keep` stay open, so
    /// that no path through them leads out.
    pub(crate) fn settle(&self, rules: &Rules, keep: [BorrowedFd<'_>; 3]) -> Result<(), Failure> {
        let [a, b, c] = keep.map(|fd| fd.as_raw_fd());
        let code = self.code.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        self.take_streams().map_err(at(Stage::Streams))?;
        let needed = Modules::needed(rules.modules);
        descriptor::close_all_but(&mut [0, 1, 2, a, b, c, code, needed])
            .map_err(at(Stage::Streams))?;
        settle_apart(rules)?;
        rules.filters.install(self.policy()).map_err(at(Stage::Seccomp))
    }

    fn policy(&self) -> Policy {
        Policy { no_setuid_files: self.no_setuid_files, ..Policy::default() }
    }

    /// Before a terminal takes their place, the standard streams hold their numbers.
    fn take_streams(&self) -> io::Result<()> {
        let Streams::Given(fds) = &self.streams else { return Ok(()) };
        descriptor::become_standard_streams([fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd()])
    }

    /// As [`become_program`](Self::become_program), for a process that has [settled](settle)
    /// before it knew what it was to become.
    pub(crate) fn become_program_late(
        &self,
        rules: &Rules,
        id: CommandId,
        link: BorrowedFd<'_>,
        own: Own,
        told: BorrowedFd<'_>,
    ) -> Failure {
        if let Err(error) = self.take_streams() {
            return (Stage::Streams, error);
        }
        // Of two filters the stricter answer counts.
        if self.policy() != Policy::default()
            && let Err(error) = rules.filters.install(self.policy())
        {
            return (Stage::Seccomp, error);
        }
        self.become_program(rules, id, link, own, told)
    }

    /// Gives up every other privilege and becomes the command's program, or runs its module, and says
    /// so where it would be `told` why not. Returns only why not.
    pub(crate) fn become_program(
        &self,
        rules: &Rules,
        id: CommandId,
        link: BorrowedFd<'_>,
        own: Own,
        told: BorrowedFd<'_>,
    ) -> Failure {
        match self.give_up_privileges(rules, id, link) {
            Ok(()) => match (&self.code, rules.modules) {
                (Some(code), Some(modules)) => {
                    (Stage::Program, self.run_module(code.as_fd(), modules, told))
                }
                _ => (Stage::Program, self.execute(own)),
            },
            Err(failure) => failure,
        }
    }

    /// Runs the module to its end, and ends as it has.
    fn run_module(
        &self,
        code: BorrowedFd<'_>,
        modules: Modules,
        told: BorrowedFd<'_>,
    ) -> io::Error {
        let module = Module {
            code,
            function: self.programs.first().map(CString::as_c_str),
            argv: self.argv.strings(),
            environment: self.environment.strings(),
            memory: modules.memory,
            network: modules.network,
        };
        match modules.runner.run(module, &mut || say_that_it_runs(told)) {
            Ok(Status::Exited(code)) => process::exit_now(i32::from(code)),
            Ok(Status::Signaled(signal)) => signal::die_of(i32::from(signal)),
            Err(error) => error,
        }
    }

    fn give_up_privileges(
        &self,
        rules: &Rules,
        id: CommandId,
        link: BorrowedFd<'_>,
    ) -> Result<(), Failure> {
        if let Streams::Terminal { rows, columns } = self.streams {
            open_terminal(id, link, rows, columns).map_err(at(Stage::Terminal))?;
        }
        descriptor::close_on_exec_from(3).map_err(at(Stage::Streams))?;
        identity::become_user(self.uid, self.gid, rules.drop_groups)
            .map_err(at(Stage::Identity))?;
        identity::drop_capabilities().map_err(at(Stage::Privileges))?;
        // As the user, who may not be allowed to see every directory.
        process::change_directory(&self.directory).map_err(at(Stage::Directory))?;
        let Some(version) = rules.landlock else { return Ok(()) };
        landlock::restrict(version, self.writable.iter().map(CString::as_c_str))
            .map_err(at(Stage::Landlock))
    }

    /// Tries the programs as a shell does: the first that exists counts, but one that may not be
    /// executed is passed over while another might do.
    fn execute(&self, own: Own) -> io::Error {
        let mut denied = None;
        let mut last = io::Error::from_raw_os_error(libc_errno::NOT_FOUND);
        for program in &self.programs {
            if own.is(program) {
                return io::Error::from_raw_os_error(libc_errno::DENIED);
            }
            last = process::exec(program, &self.argv, &self.environment);
            match last.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                io::ErrorKind::PermissionDenied => denied = Some(last),
                _ => return last,
            }
            last = io::Error::from_raw_os_error(libc_errno::NOT_FOUND);
        }
        denied.unwrap_or(last)
    }
}

/// Does all that can be done before it is known what is to be started. Of all descriptors only the
/// standard streams, which are nobody's yet, and `keep` stay open.
pub(crate) fn settle(rules: &Rules, keep: [BorrowedFd<'_>; 2]) -> Result<(), Failure> {
    let [a, b] = keep.map(|fd| fd.as_raw_fd());
    let needed = Modules::needed(rules.modules);
    descriptor::close_all_but(&mut [0, 1, 2, a, b, needed]).map_err(at(Stage::Streams))?;
    settle_apart(rules)?;
    rules.filters.install(Policy::default()).map_err(at(Stage::Seccomp))
}

/// Parts from the session and the signals of its maker, and gets under the limits.
fn settle_apart(rules: &Rules) -> Result<(), Failure> {
    process::new_session().map_err(at(Stage::Session))?;
    let kept: &[i32] = if rules.modules.is_some() { &HANDLED } else { &[] };
    signal::reset_to_default(kept).map_err(at(Stage::Session))?;
    process::set_umask(0o022);
    // Else the caller's directory would stay within reach when the root is changed.
    process::change_directory(c"/").map_err(at(Stage::Directory))?;
    rules.limits.iter().try_for_each(ResourceLimit::apply).map_err(at(Stage::Limits))?;
    identity::no_new_privileges().map_err(at(Stage::Privileges))?;
    identity::drop_bounding_capabilities().map_err(at(Stage::Privileges))
}

/// Numbers that Linux has had on every architecture for ever; std names only their kinds.
mod libc_errno {
    pub(super) const NOT_FOUND: i32 = 2;
    pub(super) const DENIED: i32 = 13;
}

/// Opens pipes to everybody in the one direction that they are for: else a command of another user
/// could not open `/dev/stdout`. It is the engine's or the caller's pipe, but only its few holders
/// ever notice its mode.
pub fn open_pipes(stdio: &Stdio) -> io::Result<()> {
    const MODES: [u32; 3] = [0o644, 0o622, 0o622];
    let Stdio::Streams(fds) = stdio else { return Ok(()) };
    let mut pipes =
        fds.iter().zip(MODES).filter(|(fd, _)| descriptor::is_anonymous_pipe(fd.as_fd()));
    pipes.try_for_each(|(fd, mode)| descriptor::set_mode(fd.as_fd(), mode))
}

impl ResourceLimit {
    /// Those that every process of every place is under.
    pub fn for_all() -> Vec<Self> {
        /// What most programs take for granted; more is theirs for the asking, within reason.
        const DESCRIPTORS: ResourceLimit =
            ResourceLimit { resource: Resource::Descriptors, soft: 1024, hard: 65536 };
        /// 1 byte: the kernel's own sign that not even a program named by the host's core pattern
        /// is to get a dump (fs/coredump.c), which 0 is not.
        const CORE: ResourceLimit = ResourceLimit { resource: Resource::Core, soft: 1, hard: 1 };
        vec![DESCRIPTORS, CORE]
    }

    /// Puts the calling process under it. Child-safe.
    pub fn apply(&self) -> io::Result<()> {
        rlimit::limit(self.resource, self.soft, self.hard)
    }
}

/// Opens a terminal in the place, makes it the command's, and hands its controlling side over.
fn open_terminal(id: CommandId, link: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let (controller, terminal) = terminal::open(c"/dev/pts/ptmx")?;
    terminal::set_size(controller.as_fd(), rows, columns)?;
    terminal::control(terminal.as_fd())?;
    descriptor::become_standard_streams([terminal.as_fd(); 3])?;
    let frame = FromAgent::Terminal { command: id }.encode();
    socket::send(link, frame.as_bytes(), &[controller.as_fd()])
}

/// The agent's own program file, not as the place shows it but as the host has it.
///
/// `/proc/self/exe` leads there, from a link or as a script's interpreter. A process that ran it
/// could keep a handle on the host's file and, with the right owner, overwrite it later
/// (CVE-2019-5736). The check suffices where nobody else runs in the place yet; Landlock holds
/// against races too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own(Option<FileAtMount>);

impl Own {
    /// Whose program the caller runs. None if there is no `/proc` to lead anybody to it.
    pub fn find() -> Self {
        Self(process::file_at_mount(c"/proc/self/exe").ok())
    }

    /// Whether executing `program` would execute it.
    fn is(self, program: &CStr) -> bool {
        /// How many interpreters of interpreters the kernel follows.
        const DEPTH: usize = 5;
        self.0.is_some_and(|own| leads_to(own, program, DEPTH))
    }
}

fn leads_to(file: FileAtMount, program: &CStr, depth: usize) -> bool {
    if process::file_at_mount(program).is_ok_and(|found| found == file) {
        return true;
    }
    let mut line = [0; FIRST_LINE + 1];
    match interpreter(program, &mut line) {
        Some(interpreter) if depth > 0 => leads_to(file, interpreter, depth - 1),
        _ => false,
    }
}

/// How much of a script the kernel reads to find its interpreter.
const FIRST_LINE: usize = 256;

/// The interpreter that the first line of the script `program` names.
fn interpreter<'a>(program: &CStr, line: &'a mut [u8; FIRST_LINE + 1]) -> Option<&'a CStr> {
    let file = descriptor::open_read(program).ok()?;
    let read = descriptor::read(file.as_fd(), &mut line[..FIRST_LINE]).ok()?;
    let end = line[..read].iter().position(|b| *b == b'\n').unwrap_or(read);
    let words = line[..end].strip_prefix(b"#!")?;
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let start = 2 + words.iter().position(|b| !blank(b))?;
    let len = line[start..end].iter().position(blank).unwrap_or(end - start);
    line[start + len] = 0;
    CStr::from_bytes_until_nul(&line[start..]).ok()
}

pub(crate) fn at(stage: Stage) -> impl FnOnce(io::Error) -> Failure {
    move |error| (stage, error)
}
