//! Code as a command, in a micro-VM of the command's own process.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use agentkernel_guest::{Module, Runner};
use agentkernel_hyperlight_guest::Request;
use agentkernel_protocol::Status;
use agentkernel_sys::mapping::Mapping;
use agentkernel_sys::signal;
use agentkernel_wasm_engine::{End, Sink, texts};

use crate::hypervisor;
use crate::machine::{Machine, MachineError, Ran, Template};
use crate::streams::Own;

/// Runs modules as commands.
pub static RUNNER: &dyn Runner = &Commands;

#[derive(Debug)]
struct Commands;

/// How much memory the guests' modules can have that are booted before anybody wants one, in bytes: what
/// the profiles say. Whoever wants more, or has no limit, has one booted for it.
const KEPT: [u64; 2] = [256 << 20, 1 << 30];
/// What a module can have that has no limit.
const UNLIMITED: u64 = 4 << 30;

static READY: OnceLock<Ready> = OnceLock::new();
/// The micro-VM that stands by in this process.
static STANDING_BY: Mutex<Option<Machine>> = Mutex::new(None);

#[derive(Debug)]
struct Ready {
    templates: Vec<Template>,
    hypervisor: Option<RawFd>,
}

impl Runner for Commands {
    fn prepare(&self) {
        READY.get_or_init(|| {
            let before = hypervisor::descriptors();
            // What can't be had is told to whoever runs something.
            let boot = |size: &u64| Template::boot(*size).ok();
            let templates = KEPT.iter().filter_map(boot).collect();
            // hyperlight opens it once, and keeps to itself which it is.
            let hypervisor = hypervisor::descriptors().into_iter().find(|fd| !before.contains(fd));
            Ready { templates, hypervisor }
        });
    }

    fn descriptor(&self) -> Option<RawFd> {
        READY.get()?.hypervisor
    }

    fn stand_by(&self, memory: Option<u64>) {
        // A micro-VM is its process's alone, so that whoever is forked from this one can't use it.
        *standing_by() = machine(memory.unwrap_or(UNLIMITED)).ok();
    }

    fn run(&self, module: Module<'_>, runs: &mut dyn FnMut()) -> io::Result<Status> {
        let memory = module.memory.unwrap_or(UNLIMITED);
        let request = match request(&module, memory) {
            Ok(request) => request,
            Err(why) => {
                runs();
                return Ok(told(&Ran::from(End::Misused(why))));
            }
        };
        let code = Arc::new(mapped(module.code)?);
        let standing_by = standing_by().take();
        let mut machine = match standing_by.filter(|machine| machine.memory() >= memory) {
            Some(machine) => machine,
            None => machine(memory).map_err(refused)?,
        };
        machine.load(&code, false).map_err(refused)?;
        // What a module writes to a reader that is gone fails, as everywhere in WASI.
        signal::ignore(signal::SIGPIPE);
        runs();
        let status = told(&ended(machine.run(&request, Box::new(Own))));
        // The process ends: nobody needs to clear up in it.
        std::mem::forget(machine);
        Ok(status)
    }
}

fn standing_by() -> MutexGuard<'static, Option<Machine>> {
    STANDING_BY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One for a module with so much memory.
fn machine(memory: u64) -> Result<Machine, MachineError> {
    let kept = READY.get().map(|ready| &ready.templates[..]).unwrap_or_default();
    match kept.iter().find(|template| template.memory() >= memory) {
        Some(template) => template.machine(),
        None => Template::boot(memory)?.machine(),
    }
}

fn request(module: &Module<'_>, memory: u64) -> Result<Request, String> {
    let function = module.function.map(|name| name.to_str().map(str::to_owned)).transpose();
    Ok(Request {
        memory,
        function: function.map_err(|_| "the function's name is not UTF-8")?,
        arguments: texts(module.argv, "argument")?,
        variables: texts(module.environment, "variable")?,
    })
}

fn mapped(code: BorrowedFd<'_>) -> io::Result<Mapping> {
    let length = File::from(code.try_clone_to_owned()?).metadata()?.len();
    match usize::try_from(length).map_err(io::Error::other)? {
        0 => Err(io::Error::from_raw_os_error(NOT_EXECUTABLE)),
        length => Mapping::of(code, length),
    }
}

/// The kernel's error numbers are all that the outside can be told.
fn refused(error: MachineError) -> io::Error {
    io::Error::from_raw_os_error(match error {
        MachineError::Code(_) => NOT_EXECUTABLE,
        MachineError::OutOfMemory => NO_MEMORY,
        _ => NO_DEVICE,
    })
}

const NOT_EXECUTABLE: i32 = 8;
const NO_MEMORY: i32 = 12;
const NO_DEVICE: i32 = 19;

/// A micro-VM that fails takes its module with it, as a trap that has no name.
pub(crate) fn ended(ran: Result<Ran, MachineError>) -> Ran {
    ran.unwrap_or_else(|error| {
        Ran::from(match &error {
            MachineError::Interrupted => End::TimedOut,
            MachineError::OutOfMemory => {
                End::trapped(None, &error.to_string(), String::new(), true)
            }
            _ => End::trapped(None, &error.to_string(), String::new(), false),
        })
    })
}

/// Says what there is to say of an end.
fn told(ran: &Ran) -> Status {
    if let Some(message) = &ran.message {
        let _ = Sink::Errors.write_all(message.as_bytes());
    }
    ran.end.status()
}
