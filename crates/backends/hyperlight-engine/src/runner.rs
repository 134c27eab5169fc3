//! Code as a command, in a micro-VM of the command's own process.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, OnceLock};

use agentkernel_core::BootError;
use agentkernel_guest::{Module, Runner};
use agentkernel_hyperlight_guest::Request;
use agentkernel_protocol::Status;
use agentkernel_sys::mapping::Mapping;
use agentkernel_sys::signal;
use agentkernel_wasm_engine::{End, Sink, texts};

use crate::hypervisor;
use crate::machine::{Machine, MachineError, Ran, Template, lock};
use crate::streams::Own;

/// Runs modules as commands.
pub static RUNNER: &dyn Runner = &Commands;

#[derive(Debug)]
struct Commands;

/// What a module can have that has no limit, in bytes.
const UNLIMITED: u64 = 4 << 30;

/// Guests that were booted, one for each size of memory. A process's copies have them, too.
static TEMPLATES: Mutex<Vec<Template>> = Mutex::new(Vec::new());

/// The descriptor of the hypervisor, which hyperlight opens once, and a place has no such device.
static KVM: OnceLock<Option<RawFd>> = OnceLock::new();

/// The micro-VM that a process has made before it knew what for. A copy could not use it.
static READY: Mutex<Option<Machine>> = Mutex::new(None);

impl Runner for Commands {
    fn prepare(&self, memory: Option<u64>) -> Result<(), BootError> {
        template(memory.unwrap_or(UNLIMITED)).map_err(|error| BootError::from(&error))?;
        // Which it is can't be seen any more in a place.
        KVM.get_or_init(|| hypervisor::descriptors().first().copied());
        Ok(())
    }

    fn besides(&self, memory: u64) -> u64 {
        Template::besides(memory)
    }

    fn needs(&self) -> Option<RawFd> {
        *KVM.get()?
    }

    fn stand_by(&self, memory: Option<u64>) {
        // Whoever runs a command tries again, and is told.
        let machine = template(memory.unwrap_or(UNLIMITED)).and_then(|template| template.machine());
        *lock(&READY) = machine.ok();
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
        let ready = lock(&READY).take().filter(|machine| machine.memory() >= memory);
        let machine = match ready {
            Some(machine) => Ok(machine),
            None => template(memory).and_then(|template| template.machine()),
        };
        let mut machine = machine.map_err(refused)?;
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

/// One whose modules can have so much memory.
fn template(memory: u64) -> Result<Template, MachineError> {
    let mut kept = lock(&TEMPLATES);
    if let Some(found) = kept.iter().find(|template| template.is_of(memory)) {
        return Ok(found.clone());
    }
    let template = Template::boot(memory)?;
    kept.push(template.clone());
    Ok(template)
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
            MachineError::OutOfMemory => End::trapped(None, error.to_string(), String::new(), true),
            _ => End::trapped(None, error.to_string(), String::new(), false),
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
