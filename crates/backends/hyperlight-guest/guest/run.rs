//! Loads a module and runs it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use agentkernel_hyperlight_guest::{Answer, Request};
use agentkernel_wasm_calls::{Budget, Entry, Failure, lines, micro_vm};
use spin::Mutex;
use wasmtime::{Config, Engine, Error, InstancePre, Linker, Store};

use crate::machine;
use crate::wasi::{self, Exit, Wasi};

/// What an instance's store holds.
pub(crate) struct State {
    pub wasi: Wasi,
    budget: Budget,
}

struct Ready {
    linker: Linker<State>,
    module: Option<InstancePre<State>>,
}

static READY: Mutex<Option<Ready>> = Mutex::new(None);

/// Makes what every module needs, or says why not.
pub(crate) fn prepare() -> String {
    match ready() {
        Ok(ready) => {
            *READY.lock() = Some(ready);
            String::new()
        }
        Err(error) => format!("{error:#}"),
    }
}

fn ready() -> wasmtime::Result<Ready> {
    let mut config = Config::new();
    micro_vm(&mut config)?;
    machine::configure(&mut config);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    wasi::add(&mut linker)?;
    Ok(Ready { linker, module: None })
}

pub(crate) fn load(address: u64, length: u64, all_at_once: bool) -> String {
    match &mut *READY.lock() {
        Some(ready) => match ready.load(address, length, all_at_once) {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        },
        None => "nothing was prepared".into(),
    }
}

pub(crate) fn run(request: Vec<u8>) -> Vec<u8> {
    let module = match &*READY.lock() {
        Some(Ready { module: Some(module), .. }) => module.clone(),
        _ => return Answer::Misused("no module was loaded".into()).to_bytes(),
    };
    let answer = match Request::from_bytes(&request) {
        Some(request) => request.run(&module),
        None => Answer::Misused("the request can't be read".into()),
    };
    answer.to_bytes()
}

impl Ready {
    fn load(&mut self, address: u64, length: u64, all_at_once: bool) -> wasmtime::Result<()> {
        let module = machine::module(self.linker.engine(), address, length, all_at_once)?;
        self.module = Some(self.linker.instantiate_pre(&module)?);
        Ok(())
    }
}

/// Runs one request to its end.
trait Run {
    fn run(self, module: &InstancePre<State>) -> Answer;
}

impl Run for Request {
    fn run(self, module: &InstancePre<State>) -> Answer {
        let words = self.arguments.get(1..).unwrap_or_default();
        let entry = match Entry::of(module.module(), self.function.as_deref(), words) {
            Ok(entry) => entry,
            Err(why) => return Answer::Misused(why),
        };
        let budget = Budget::new(self.memory.min(most_memory()));
        let wasi = Wasi::new(self.arguments, self.variables);
        let mut store = Store::new(module.module().engine(), State { wasi, budget });
        store.limiter(|state| &mut state.budget);
        let result =
            module.instantiate(&mut store).and_then(|instance| entry.call(&mut store, instance));
        match result {
            Ok(results) => Answer::Exited(wasi::print(&lines(&results)).into()),
            Err(error) => ended(&error, store.data().budget.has_refused()),
        }
    }
}

/// What a module may have of the memory that is left: pages need others that tell where they are, and so
/// does the guest itself.
fn most_memory() -> u64 {
    const OWN: u64 = 4 << 20;
    let left = machine::memory_left();
    left.saturating_sub(left / 256).saturating_sub(OWN)
}

fn ended(error: &Error, is_refused_memory: bool) -> Answer {
    if let Some(Exit(status)) = error.downcast_ref() {
        return Answer::Exited(*status);
    }
    let Failure { trap, reason, backtrace } = error.into();
    Answer::Trapped { trap: trap.map(|trap| trap as u8), reason, backtrace, is_refused_memory }
}
