//! Micro-VMs that are ready, in this process.

pub(crate) mod given;
mod watch;

use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentkernel_hyperlight_guest::Request;
use agentkernel_pool::Settings;
use agentkernel_sys::mapping::Mapping;
use agentkernel_wasm_engine::{Call, Called, End};
use rustix::event::{EventfdFlags, eventfd};

use crate::machine::{Machine, MachineError, Template, lock};
use crate::pool::given::Given;
use crate::pool::watch::Watch;
use crate::runner::ended;

/// Keeps micro-VMs ready that have a module loaded, each of which serves one call. After it the micro-VM
/// is made what it was before, or another one takes its place if it has failed.
#[derive(Debug)]
pub struct Pool(agentkernel_pool::Pool<Spare>);

/// What all micro-VMs of a pool share.
#[derive(Debug)]
struct Shared {
    template: Template,
    watch: Watch,
    used: Mutex<Vec<Machine>>,
}

#[derive(Debug)]
struct Spare {
    /// There until it is called. It is large, and what is handed out is moved.
    machine: Mutex<Option<Box<Machine>>>,
    shared: Arc<Shared>,
    /// A micro-VM that nobody calls does nothing, so this never says anything.
    silence: OwnedFd,
}

/// A micro-VM for one call.
#[derive(Debug)]
pub struct Lease(agentkernel_pool::Lease<Spare>);

impl Pool {
    /// Loads code that [`compile`](crate::compile) has returned, and keeps so many micro-VMs ready for it, in
    /// which it can have so much memory, in bytes. All are ready when this returns.
    pub fn start(code: &[u8], size: usize, memory: u64) -> Result<Self, MachineError> {
        let code = Arc::new(Mapping::of_bytes(code).map_err(unable)?);
        let template = Template::boot(memory)?.loaded(&code)?;
        let watch = Watch::start().map_err(unable)?;
        let shared = Arc::new(Shared { template, watch, used: Mutex::default() });
        let boot = move || Shared::spare(&shared);
        let pool = Self(agentkernel_pool::Pool::start(&settings(size), boot).map_err(unable)?);
        pool.until(size)?;
        Ok(pool)
    }

    /// One that is ready, if any is.
    pub fn take(&self) -> Option<Lease> {
        self.0.acquire().map(Lease)
    }

    /// One that is ready, for which it waits. The error is why there is none.
    pub fn wait(&self) -> Result<Lease, MachineError> {
        loop {
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            self.until(1)?;
        }
    }

    /// How many are ready now.
    pub fn ready(&self) -> usize {
        self.0.status().ready
    }

    /// Waits until so many are ready.
    fn until(&self, ready: usize) -> Result<(), MachineError> {
        self.0.wait_until(Duration::MAX, |status| {
            status.ready >= ready || status.last_failure.is_some()
        });
        let status = self.0.status();
        match status.last_failure {
            Some(why) if status.ready < ready => Err(MachineError::Unavailable(why)),
            _ => Ok(()),
        }
    }
}

/// A micro-VM doesn't age, and each that was taken is wanted back at once.
fn settings(size: usize) -> Settings {
    Settings {
        max_age: Duration::from_secs(365 * 24 * 60 * 60),
        quiet: Duration::ZERO,
        ..Settings::new(size)
    }
}

fn unable(error: impl Display) -> MachineError {
    MachineError::Unavailable(error.to_string())
}

impl Lease {
    /// Runs one call to its end. Its memory is bounded by what the pool's can have.
    pub fn call(self, call: &Call<'_>) -> Called {
        // The pool misses it once this is dropped, by when the micro-VM is among those that were used.
        let Spare { machine, shared, .. } = self.0.spare();
        let streams = Given::new(call.input.clone(), call.time_limit);
        let Some(mut machine) = lock(machine).take() else {
            return streams.called(End::Misused("the micro-VM is gone".into()));
        };
        let words = std::iter::once("module").chain(call.arguments.iter().copied());
        let request = Request {
            memory: call.memory.min(shared.template.memory()),
            function: call.function.map(str::to_owned),
            arguments: words.map(str::to_owned).collect(),
            variables: call.environment.iter().map(|(n, v)| format!("{n}={v}")).collect(),
        };
        let watched =
            call.time_limit.map(|limit| shared.watch.over(limit, machine.interrupt_handle()));
        let result = machine.run(&request, Box::new(streams.clone()));
        drop(watched);
        if result.is_ok() {
            lock(&shared.used).push(*machine);
        }
        let ran = ended(result);
        // What a module that was called wrongly or has trapped is told is the end itself.
        if let End::Exited(_) = ran.end
            && let Some(message) = &ran.message
        {
            streams.tell(message.as_bytes());
        }
        streams.called(ran.end)
    }
}

impl Shared {
    /// One that was used, made what it was, or a new one.
    fn spare(this: &Arc<Self>) -> Result<Spare, MachineError> {
        let used = lock(&this.used).pop();
        let restored = used.and_then(|mut used| used.restore(&this.template).ok().map(|()| used));
        let machine = match restored {
            Some(machine) => machine,
            None => this.template.machine()?,
        };
        let silence = eventfd(0, EventfdFlags::CLOEXEC).map_err(unable)?;
        let machine = Mutex::new(Some(Box::new(machine)));
        Ok(Spare { machine, shared: Arc::clone(this), silence })
    }
}

impl agentkernel_pool::Spare for Spare {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.silence.as_fd()
    }

    fn destroy(self) {}
}
