//! Micro-VMs.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentkernel_hyperlight_guest::{Answer, LOAD, MOST, PREPARE, RUN, Request, host};
use agentkernel_sys::mapping::Mapping;
use agentkernel_wasm_engine::End;
use hyperlight_host::hypervisor::InterruptHandle;
use hyperlight_host::sandbox::snapshot::Snapshot;
use hyperlight_host::{HyperlightError, Sandbox, SandboxBuilder};
use tracing_core::LevelFilter;
use wasmtime::Trap;

use crate::streams::Streams;
use crate::{clock, errno, guest, hypervisor, trusted};

/// What the engine in the guest has for itself, in bytes.
const HEAP: u64 = 16 << 20;
/// The guest's memory besides: copies of its heap's pages, stacks, what goes back and forth.
const OWN: u64 = 32 << 20;
/// What the guest's memory is made of, in bytes.
const PAGE: u64 = 4096;
/// The most that a module can have: there is no more to give it addresses in.
const MOST_MEMORY: u64 = 12 << 30;

/// Why there is no micro-VM, or why it is gone.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("this build has no guest for micro-VMs: {0}")]
    NoGuest(&'static str),
    #[error("/dev/kvm can't be opened: {0}")]
    NoHypervisor(#[source] io::Error),
    #[error("a micro-VM can't be had: {0}")]
    Unavailable(String),
    #[error("the code is not of this version of agentkernel, or not of this machine: {0}")]
    Code(String),
    #[error("the micro-VM has failed: {0}")]
    Failed(String),
    /// The guest's own memory was not enough.
    #[error("the micro-VM has run out of memory")]
    OutOfMemory,
    #[error("the micro-VM was interrupted")]
    Interrupted,
}

impl MachineError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoGuest(_) => {
                "build agentkernel with a Rust toolchain of rustup's, which has the linker and the core \
                 library that a guest is made with"
            }
            Self::NoHypervisor(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "become a member of the group that owns /dev/kvm, which is often `kvm`"
            }
            Self::NoHypervisor(_) => {
                "turn virtualisation on in the machine's firmware, or nested virtualisation for a virtual \
                 machine, and load the kernel's module for it (kvm_intel or kvm_amd)"
            }
            Self::Code(_) => "this is not the module's fault; please report it",
            Self::OutOfMemory => "give it more with --memory",
            Self::Unavailable(_) | Self::Failed(_) | Self::Interrupted => {
                "KVM must be that of a real processor or of one that is virtualised completely; use the \
                 wasm backend where there is none"
            }
        }
    }
}

/// A guest that was booted, to make any number of micro-VMs of. It is only memory, so that a process's
/// copies have it as well.
#[derive(Clone)]
pub(crate) struct Template {
    snapshot: Arc<Snapshot>,
    /// What a module can have, in bytes.
    memory: u64,
}

/// A micro-VM.
pub(crate) struct Machine {
    sandbox: Sandbox,
    streams: Shared,
    /// The code that it has been shown.
    code: Option<Arc<Mapping>>,
    /// What a module can have, in bytes.
    memory: u64,
}

/// The streams of the one who runs something, at the time.
type Shared = Arc<Mutex<Option<Box<dyn Streams>>>>;

impl Template {
    /// Boots a guest whose modules can have so much memory, as far as that can be.
    pub fn boot(memory: u64) -> Result<Self, MachineError> {
        let memory = memory.min(MOST_MEMORY);
        let image = guest::image().map_err(MachineError::NoGuest)?;
        // A micro-VM needs it as well, but says less of why it can't be had. Who has it already may not be
        // able to open it again.
        if !hypervisor::is_open() {
            hypervisor::open().map_err(MachineError::NoHypervisor)?;
        }
        let builder = SandboxBuilder::from_bytes(image);
        // Behind each page of the guest there is an entry of 8 bytes for it, and there are more for those.
        let scratch = (memory + memory / 128 + OWN).next_multiple_of(PAGE);
        let builder = builder
            .heap_size(HEAP)
            .scratch_size(usize::try_from(scratch).unwrap_or(usize::MAX))
            .g2h_buffer_size(2 * MOST)
            .g2h_pool_pages(32)
            .h2g_buffer_size(2 * MOST)
            .h2g_queue_size(128)
            .h2g_pool_pages(1024);
        let mut machine = Machine::of(builder, memory)?;
        let why: String = machine.sandbox.call(PREPARE, ()).map_err(unavailable)?;
        if !why.is_empty() {
            return Err(MachineError::Unavailable(why));
        }
        machine.template()
    }

    /// What a process maps for a micro-VM besides that, in bytes: what the guest has for itself, twice, as
    /// the snapshot has it too, and its tables.
    pub fn besides(memory: u64) -> u64 {
        memory / 64 + 4 * (OWN + HEAP)
    }

    /// What a module can have, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Whether it was [booted](Self::boot) for so much.
    pub fn is_of(&self, memory: u64) -> bool {
        self.memory == memory.min(MOST_MEMORY)
    }

    /// One that has this code loaded.
    pub fn loaded(&self, code: &Arc<Mapping>) -> Result<Self, MachineError> {
        let mut machine = self.machine()?;
        machine.load(code, true)?;
        machine.template()
    }

    pub fn machine(&self) -> Result<Machine, MachineError> {
        Machine::of(SandboxBuilder::from_snapshot(Arc::clone(&self.snapshot)), self.memory)
    }
}

impl Machine {
    fn of(builder: SandboxBuilder, memory: u64) -> Result<Self, MachineError> {
        let streams = Shared::default();
        let sandbox = serve(builder.guest_log_level(LevelFilter::OFF), &streams).build();
        Ok(Self { sandbox: sandbox.map_err(unavailable)?, streams, code: None, memory })
    }

    fn template(&mut self) -> Result<Template, MachineError> {
        let snapshot = self.sandbox.snapshot().map_err(unavailable)?;
        Ok(Template { snapshot, memory: self.memory })
    }

    /// What a module can have, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Loads a module, page by page as it is needed, or all of it at once for a template.
    pub fn load(&mut self, code: &Arc<Mapping>, at_once: bool) -> Result<(), MachineError> {
        trusted::show(&mut self.sandbox, code).map_err(unavailable)?;
        self.code = Some(Arc::clone(code));
        let place = (agentkernel_hyperlight_guest::CODE, code.length() as u64, at_once);
        let why: String = self.sandbox.call(LOAD, place).map_err(failed)?;
        if why.is_empty() { Ok(()) } else { Err(MachineError::Code(why)) }
    }

    /// Runs the module that is loaded, with these streams.
    pub fn run(
        &mut self,
        request: &Request,
        streams: Box<dyn Streams>,
    ) -> Result<Ran, MachineError> {
        *lock(&self.streams) = Some(streams);
        let answer = self.sandbox.call::<Vec<u8>>(RUN, request.to_bytes());
        *lock(&self.streams) = None;
        match answer {
            Ok(bytes) => Answer::from_bytes(&bytes)
                .map(Ran::from)
                .ok_or_else(|| MachineError::Failed("its answer can't be read".into())),
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes it what the template is, whatever has happened in it.
    pub fn restore(&mut self, template: &Template) -> Result<(), MachineError> {
        self.sandbox.restore(Arc::clone(&template.snapshot)).map_err(unavailable)?;
        self.code = None;
        Ok(())
    }

    /// Who uses this ends what it runs.
    pub fn interrupt_handle(&self) -> Arc<dyn InterruptHandle> {
        self.sandbox.interrupt_handle()
    }
}

/// How a run has ended, and what is to be said of that.
#[derive(Debug)]
pub(crate) struct Ran {
    pub end: End,
    pub message: Option<String>,
}

impl From<End> for Ran {
    fn from(end: End) -> Self {
        Self { message: end.message(), end }
    }
}

impl From<Answer> for Ran {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Exited(status) => Self {
                end: End::Exited(u8::try_from(status).unwrap_or(u8::MAX)),
                message: agentkernel_wasm_engine::beyond(status),
            },
            Answer::Trapped { trap, reason, backtrace, is_refused_memory } => {
                let trap = trap.and_then(Trap::from_u8);
                End::trapped(trap, reason, backtrace, is_refused_memory).into()
            }
            Answer::Misused(why) => End::Misused(why).into(),
        }
    }
}

/// Lets the guest call what it needs of the host.
fn serve(builder: SandboxBuilder, streams: &Shared) -> SandboxBuilder {
    let with = |streams: &Shared| Arc::clone(streams);
    let (input, output, waiting, kind) =
        (with(streams), with(streams), with(streams), with(streams));
    builder
        .host_function(host::READ, move |most: u32| read(&input, most as usize))
        .host_function(host::WRITE, move |stream: u32, bytes: Vec<u8>| -> u32 {
            let written = on(&output, |streams| streams.write(stream == 2, &bytes));
            written.map_or(errno::BAD_DESCRIPTOR.into(), |done| match done {
                Ok(()) => 0,
                Err(error) => errno::of(&error).into(),
            })
        })
        .host_function(host::WAIT, move |nanoseconds: u64, is_for_input: bool| -> bool {
            let timeout = (nanoseconds != u64::MAX).then(|| Duration::from_nanos(nanoseconds));
            on(&waiting, |streams| streams.wait(timeout, is_for_input)).unwrap_or(false)
        })
        .host_function(host::CLOCK, |number: u32| -> u64 { clock::now(number) })
        .host_function(host::RANDOM, |length: u32| -> Vec<u8> {
            let mut bytes = vec![0; (length as usize).min(MOST)];
            // Too few tell the guest that there are none.
            agentkernel_sys::machine::random(&mut bytes).map_or_else(|_| Vec::new(), |()| bytes)
        })
        .host_function(host::IS_TERMINAL, move |stream: u32| -> bool {
            on(&kind, |streams| streams.is_terminal(stream)).unwrap_or(false)
        })
}

fn read(streams: &Shared, most: usize) -> Vec<u8> {
    let mut answer = vec![0; 1 + most.min(MOST)];
    match on(streams, |streams| streams.read(&mut answer[1..])) {
        Some(Ok(length)) => answer.truncate(1 + length),
        Some(Err(error)) => answer = vec![errno::of(&error)],
        None => answer = vec![errno::BAD_DESCRIPTOR],
    }
    answer
}

fn on<T>(streams: &Shared, action: impl FnOnce(&mut dyn Streams) -> T) -> Option<T> {
    let mut held = lock(streams);
    held.as_mut().map(|streams| action(&mut **streams))
}

pub(crate) fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(error: HyperlightError) -> MachineError {
    MachineError::Unavailable(error.to_string())
}

/// What an error of a call means, behind which the guest is of no more use.
fn failed(error: HyperlightError) -> MachineError {
    /// hyperlight's number of the want of memory.
    const NO_MEMORY: u8 = 11;
    match error {
        HyperlightError::ExecutionCanceledByHost() => MachineError::Interrupted,
        HyperlightError::GuestAborted(NO_MEMORY, _) => MachineError::OutOfMemory,
        error => MachineError::Failed(error.to_string()),
    }
}

impl Debug for Template {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl Debug for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}
