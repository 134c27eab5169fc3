//! Micro-VMs that are ready, in this process.

pub(crate) mod given;
mod watch;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use agentkernel_hyperlight_guest::Request;
use agentkernel_sys::mapping::Mapping;
use agentkernel_wasm_engine::{Call, Called, End};

use crate::machine::{Machine, MachineError, Template};
use crate::pool::given::Given;
use crate::pool::watch::Watch;
use crate::runner::ended;

/// Keeps micro-VMs ready that have a module loaded, each of which serves one call. After it, a thread of
/// the pool's makes the micro-VM what it was before, or another one if it has failed.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    template: Template,
    watch: Watch,
    size: usize,
    machines: Mutex<Machines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Machines {
    ready: VecDeque<Box<Machine>>,
    used: VecDeque<Box<Machine>>,
    /// Those that were handed out.
    leased: usize,
    is_over: bool,
    /// Why there are no more.
    failure: Option<String>,
}

/// A micro-VM for one call.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    machine: Option<Box<Machine>>,
}

impl Pool {
    /// Loads code that [`compile`](crate::compile) has returned, and keeps so many micro-VMs ready for it, in
    /// which it can have so much memory, in bytes. All are ready when this returns.
    pub fn start(code: &[u8], size: usize, memory: u64) -> Result<Self, MachineError> {
        let unable = |error: std::io::Error| MachineError::Unavailable(error.to_string());
        let code = Arc::new(Mapping::of_bytes(code).map_err(unable)?);
        let template = Template::boot(memory)?.loaded(&code)?;
        let ready =
            (0..size).map(|_| template.machine().map(Box::new)).collect::<Result<_, _>>()?;
        let machines = Mutex::new(Machines { ready, ..Machines::default() });
        let watch = Watch::start().map_err(unable)?;
        let changed = Condvar::new();
        let shared = Arc::new(Shared { template, watch, size, machines, changed });
        let own = Arc::clone(&shared);
        let keeper = thread::Builder::new().name("micro-vms".into()).spawn(move || own.keep());
        Ok(Self { shared, keeper: Some(keeper.map_err(unable)?) })
    }

    /// One that is ready, if any is.
    pub fn take(&self) -> Option<Lease> {
        let mut machines = self.shared.lock();
        let machine = machines.ready.pop_front()?;
        machines.leased += 1;
        drop(machines);
        Some(Lease { shared: Arc::clone(&self.shared), machine: Some(machine) })
    }

    /// One that is ready, for which it waits. The error is why there will be none.
    pub fn wait(&self) -> Result<Lease, MachineError> {
        loop {
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            let machines = self.shared.lock();
            if let Some(why) = &machines.failure {
                return Err(MachineError::Unavailable(why.clone()));
            }
            let is_empty =
                |machines: &mut Machines| machines.ready.is_empty() && machines.failure.is_none();
            drop(self.shared.changed.wait_while(machines, is_empty));
        }
    }

    /// How many are ready now.
    pub fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }
}

impl Lease {
    /// Runs one call to its end. Its memory is bounded by what the pool's can have.
    pub fn call(mut self, call: &Call<'_>) -> Called {
        let streams = Given::new(call.input.clone(), call.time_limit);
        let Some(machine) = &mut self.machine else {
            return streams.called(End::Misused("there is no micro-VM".into()));
        };
        let words = std::iter::once("module").chain(call.arguments.iter().copied());
        let request = Request {
            memory: call.memory.min(self.shared.template.memory()),
            function: call.function.map(str::to_owned),
            arguments: words.map(str::to_owned).collect(),
            variables: call.environment.iter().map(|(n, v)| format!("{n}={v}")).collect(),
        };
        let watched =
            call.time_limit.map(|limit| self.shared.watch.over(limit, machine.interrupt_handle()));
        let result = machine.run(&request, Box::new(streams.clone()));
        drop(watched);
        if result.is_err() {
            self.machine = None;
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

impl Drop for Lease {
    fn drop(&mut self) {
        let mut machines = self.shared.lock();
        machines.leased -= 1;
        machines.used.extend(self.machine.take());
        drop(machines);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes those that were used ready again, and new ones for those that are gone.
    fn keep(&self) {
        loop {
            let is_idle = |machines: &mut Machines| {
                let Machines { ready, used, leased, is_over, failure } = machines;
                let is_full = ready.len() + *leased >= self.size || failure.is_some();
                !*is_over && used.is_empty() && is_full
            };
            let machines = self.changed.wait_while(self.lock(), is_idle);
            let mut machines = machines.unwrap_or_else(PoisonError::into_inner);
            if machines.is_over {
                return;
            }
            let used = machines.used.pop_front();
            drop(machines);
            let made = self.renewed(used);
            let mut machines = self.lock();
            match made {
                Ok(machine) => machines.ready.push_back(machine),
                Err(error) => machines.failure = Some(error.to_string()),
            }
            drop(machines);
            self.changed.notify_all();
        }
    }

    fn renewed(&self, used: Option<Box<Machine>>) -> Result<Box<Machine>, MachineError> {
        if let Some(mut machine) = used
            && machine.restore(&self.template).is_ok()
        {
            return Ok(machine);
        }
        self.template.machine().map(Box::new)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        let mut machines = self.shared.lock();
        machines.ready.clear();
        machines.used.clear();
    }
}
