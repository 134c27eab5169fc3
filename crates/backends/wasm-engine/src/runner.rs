//! Code as a command, in the command's own process.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use agentkernel_core::BootError;
use agentkernel_guest::{Module, Runner};
use agentkernel_protocol::Status;
use agentkernel_sys::{machine, signal};
use agentkernel_wasm_calls::lines;
use rand::TryRng;
use rand::rand_core::UnwrapErr;
use tokio::runtime;
use wasmtime::{Engine, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::end::{self, End};
use crate::program::{Linkers, Program, State};
use crate::streams::{Input, Sink};
use crate::{config, trusted};

/// Runs modules as commands.
pub static RUNNER: &dyn Runner = &Commands;

/// An epoch that never comes: a command's time limit is its agent's to keep, by killing it.
const NEVER: u64 = u64::MAX / 2;

#[derive(Debug)]
struct Commands;

#[derive(Debug)]
struct Ready {
    engine: Engine,
    linkers: Linkers,
}

static READY: OnceLock<Option<Ready>> = OnceLock::new();

fn ready() -> Option<&'static Ready> {
    let make = || {
        let engine = Engine::new(&config()).ok()?;
        let linkers = Linkers::new(&engine).ok()?;
        Some(Ready { engine, linkers })
    };
    READY.get_or_init(make).as_ref()
}

/// Whether this is code that can be run here.
pub(crate) fn accepts(code: &[u8]) -> bool {
    ready().is_some_and(|ready| trusted::load(&ready.engine, code).is_ok())
}

impl Runner for Commands {
    fn prepare(&self, _memory: Option<u64>) -> Result<(), BootError> {
        ready().map(drop).ok_or_else(|| BootError::Unavailable {
            why: "the engine for WebAssembly can't be had on this machine".into(),
            fix: "please report this, with the kind of processor".into(),
        })
    }

    fn run(&self, module: Module<'_>, runs: &mut dyn FnMut()) -> io::Result<Status> {
        let ready = ready().ok_or(io::ErrorKind::Unsupported)?;
        let program = ready.load(module.code)?;
        // What a module writes to a reader that is gone fails, as everywhere in WASI.
        signal::ignore(signal::SIGPIPE);
        runs();
        let end = ready.run(&program, &module).unwrap_or_else(End::Misused);
        if let Some(message) = end.message() {
            let _ = Sink::Errors.write_all(message.as_bytes());
        }
        Ok(end.status())
    }
}

impl Ready {
    /// The kernel's error numbers are all that the outside can be told.
    fn load(&self, code: BorrowedFd<'_>) -> io::Result<Program> {
        let invalid = |_| io::Error::from_raw_os_error(NOT_EXECUTABLE);
        let code = self.code(code)?.map_err(invalid)?;
        self.linkers.link(&code).map_err(invalid)
    }

    fn code(&self, code: BorrowedFd<'_>) -> io::Result<wasmtime::Result<trusted::Code>> {
        let file = File::from(code.try_clone_to_owned()?);
        let mut head = [0; 4096];
        let read = file.read_at(&mut head, 0)?;
        // A file system may forbid to execute what is mapped of it; then it is read.
        if let Ok(Some(code)) = trusted::load_file(&self.engine, file.try_clone()?, &head[..read]) {
            return Ok(Ok(code));
        }
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(trusted::load(&self.engine, &bytes))
    }

    fn run(&self, program: &Program, module: &Module<'_>) -> Result<End, String> {
        let words = texts(module.argv, "argument")?;
        let function = module.function.map(|name| name.to_str()).transpose();
        let function = function.map_err(|_| "the function's name is not UTF-8")?;
        let entry = program.entry(function, words.get(1..).unwrap_or_default())?;
        let wasi = wasi(&words, &texts(module.environment, "variable")?, module.network)?;
        let state = State::with(wasi, module.memory.unwrap_or(u64::MAX));
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.budget);
        store.set_epoch_deadline(NEVER);
        let mut runtime = runtime::Builder::new_current_thread();
        if module.network {
            runtime.enable_io();
        }
        let runtime = runtime.enable_time().build();
        let runtime = runtime.map_err(|error| format!("the module can't be run: {error}"))?;
        let result = runtime.block_on(program.run(&mut store, &entry));
        let is_refused = store.data().budget.has_refused();
        // The process ends: nobody needs to clear up in it.
        std::mem::forget((store, runtime));
        Ok(match result {
            Ok(results) => printed(&lines(&results)),
            Err(error) => {
                if let Some(message) = end::impossible_status(&error) {
                    let _ = Sink::Errors.write_all(message.as_bytes());
                }
                End::of(&error, is_refused)
            }
        })
    }
}

/// ENOEXEC, the same on every architecture.
const NOT_EXECUTABLE: i32 = 8;

/// A module sees the place's root and the directory that it is started in, with its own streams, the
/// `network` if it may, and random numbers that no other process can have: the kernel's.
fn wasi(words: &[String], variables: &[String], network: bool) -> Result<WasiP1Ctx, String> {
    let mut builder = WasiCtxBuilder::new();
    // The thread that wants something of a file does it; it is the only one.
    builder.allow_blocking_current_thread(true);
    builder.args(words).stdin(Input).stdout(Sink::Output).stderr(Sink::Errors);
    for variable in variables {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        builder.env(name, value);
    }
    if network {
        builder.inherit_network().allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true);
    }
    builder
        .preopened_dir("/", "/", FsPerms::ReadWrite)
        .map_err(|error| format!("the root can't be opened: {error:#}"))?;
    // Programs run in a directory that they may not read, too.
    if builder.preopened_dir(".", ".", FsPerms::ReadWrite).is_ok()
        && let Some(directory) =
            std::env::current_dir().ok().and_then(|d| d.into_os_string().into_string().ok())
    {
        builder.initial_cwd(directory);
    }
    let random = || UnwrapErr(Kernel);
    let mut seed = [0; 16];
    machine::random(&mut seed).map_err(|error| format!("no random numbers: {error}"))?;
    builder.secure_random(random()).insecure_random(random());
    builder.insecure_random_seed(u128::from_ne_bytes(seed));
    Ok(builder.build_p1())
}

/// The kernel's random numbers.
struct Kernel;

impl TryRng for Kernel {
    type Error = io::Error;

    fn try_next_u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        machine::random(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        machine::random(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> io::Result<()> {
        machine::random(to)
    }
}

/// WASI knows text only. The error says which of `what` is none.
pub fn texts(all: &[CString], what: &str) -> Result<Vec<String>, String> {
    let text = |(number, bytes): (usize, &CString)| {
        bytes.to_str().map(str::to_owned).map_err(|_| {
            format!("{what} {number} is not UTF-8, and WebAssembly modules get nothing else")
        })
    };
    all.iter().enumerate().map(text).collect()
}

fn printed(lines: &str) -> End {
    match Sink::Output.write_all(lines.as_bytes()) {
        Ok(()) => End::Exited(0),
        Err(_) => End::Exited(1),
    }
}
