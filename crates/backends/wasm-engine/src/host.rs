//! Code run in this process.

use std::cell::RefCell;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentkernel_wasm_calls::{Entry, lines};
use bytes::Bytes;
use tokio::runtime::{self, Runtime};
use wasmtime::{
    Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store, Trap,
    UpdateDeadline, Val,
};

use crate::end::{self, End};
use crate::program::{Linkers, Program, State};
use crate::streams::{Given, Kept};
use crate::ticker::Ticker;
use crate::{config, trusted};

/// How many calls there can be at once. More wait for one of them to end.
const AT_ONCE: u32 = 512;

/// Runs calls of modules in this process, each in an instance that is made for it and gone after it,
/// out of memory that is set aside for that. Any number of threads may call at once; a call blocks its
/// thread, which must not be one that serves asynchronous tasks.
///
/// The wall around a call is WebAssembly's alone. It sees no file, no network and no variable but its
/// own.
#[derive(Debug)]
pub struct Host {
    engine: Engine,
    linkers: Linkers,
    ticker: Ticker,
    slots: Slots,
}

/// Code that is ready to be called.
pub struct Loaded<'a> {
    host: &'a Host,
    program: Program,
}

/// One call.
#[derive(Debug, Clone, Default)]
pub struct Call<'a> {
    /// What is called, by its exported name; if none is, the module runs as a command.
    pub function: Option<&'a str>,
    /// The function's, or else what a command gets behind its name.
    pub arguments: &'a [&'a str],
    pub input: Bytes,
    pub environment: &'a [(&'a str, &'a str)],
    /// What all of its memories and tables may take, in bytes.
    pub memory: u64,
    pub time_limit: Option<Duration>,
}

/// What came of a call. Results of a function are the end of its output, one a line.
#[derive(Debug)]
pub struct Called {
    pub output: Output,
    pub errors: Output,
    pub end: End,
}

/// What was written, or the first 4 MiB of it.
#[derive(Debug, Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    /// Whether more was written.
    pub is_cut: bool,
}

/// Why code can't be run in this process.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the engine for WebAssembly can't be had: {0}")]
    Engine(String),
    #[error("no thread can be started: {0}")]
    Thread(#[source] io::Error),
    #[error("the code is not of this version of agentkernel, or not of this machine: {0}")]
    Code(String),
}

impl Host {
    pub fn new() -> Result<Self, HostError> {
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        let unable = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        let engine = Engine::new(&config).map_err(unable)?;
        let linkers = Linkers::new(&engine).map_err(unable)?;
        let ticker = Ticker::start(&engine).map_err(HostError::Thread)?;
        Ok(Self { engine, linkers, ticker, slots: Slots::default() })
    }

    /// Makes ready what [`compile`](crate::compile) has returned, here or in another process: nothing
    /// else is to be given here, since it is executed as it is.
    pub fn load(&self, code: &[u8]) -> Result<Loaded<'_>, HostError> {
        let foreign = |error: wasmtime::Error| HostError::Code(format!("{error:#}"));
        let code = trusted::load(&self.engine, code).map_err(foreign)?;
        let program = self.linkers.link(&code).map_err(foreign)?;
        Ok(Loaded { host: self, program })
    }
}

/// Memory for so many instances. Nearly all of it is only addresses.
fn pool() -> PoolingAllocationConfig {
    /// What a used memory keeps for the next that is made in its place, in bytes: to clear this is
    /// quicker than to ask the kernel for it again.
    const KEPT: usize = 64 << 10;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(AT_ONCE)
        .total_component_instances(AT_ONCE)
        .total_core_instances(4 * AT_ONCE)
        .total_memories(2 * AT_ONCE)
        .total_tables(4 * AT_ONCE)
        .table_elements(100_000)
        .linear_memory_keep_resident(KEPT)
        .table_keep_resident(KEPT);
    pool
}

impl Loaded<'_> {
    /// Runs one call to its end.
    pub fn call(&self, call: &Call<'_>) -> Called {
        let entry = match self.program.entry(call.function, call.arguments) {
            Ok(entry) => entry,
            Err(why) => return Called::misused(why),
        };
        let _slot = self.host.slots.take();
        let (output, errors) = (Kept::default(), Kept::default());
        let mut store = Store::new(&self.host.engine, call.state(&output, &errors));
        store.limiter(|state| &mut state.budget);
        let result = self.run(&mut store, &entry, call.time_limit);
        let end = match result {
            Ok(results) => {
                output.add(lines(&results).as_bytes());
                End::Exited(0)
            }
            Err(error) => {
                let message = end::impossible_status(&error).unwrap_or_default();
                errors.add(message.as_bytes());
                End::of(&error, store.data().budget.has_refused())
            }
        };
        Called { output: output.take(), errors: errors.take(), end }
    }

    fn run(
        &self,
        store: &mut Store<State>,
        entry: &Entry,
        limit: Option<Duration>,
    ) -> Result<Vec<Val>> {
        let Some(limit) = limit else {
            store.set_epoch_deadline(u64::MAX / 2);
            return self.run_unlimited(store, entry);
        };
        let _ticking = self.host.ticker.watch();
        let over = Instant::now() + limit;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            let is_over = Instant::now() >= over;
            Ok(if is_over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
        });
        if self.program.is_plain() {
            return self.program.run_plain(store, entry);
        }
        // The epoch stops what computes, and this what waits.
        let limited = async { tokio::time::timeout(limit, self.program.run(store, entry)).await };
        blocking(|runtime| runtime.block_on(limited))?
            .unwrap_or_else(|_| Err(Trap::Interrupt.into()))
    }

    fn run_unlimited(&self, store: &mut Store<State>, entry: &Entry) -> Result<Vec<Val>> {
        if self.program.is_plain() {
            return self.program.run_plain(store, entry);
        }
        blocking(|runtime| runtime.block_on(self.program.run(store, entry)))?
    }
}

/// Does `action` with the calling thread's own runtime.
fn blocking<T>(action: impl FnOnce(&Runtime) -> T) -> Result<T> {
    thread_local! {
        static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    RUNTIME.with_borrow_mut(|own| {
        if own.is_none() {
            *own = Some(runtime::Builder::new_current_thread().enable_time().build()?);
        }
        let runtime = own.as_ref().ok_or_else(|| wasmtime::format_err!("there is no runtime"))?;
        Ok(action(runtime))
    })
}

impl Call<'_> {
    fn state(&self, output: &Kept, errors: &Kept) -> State {
        let words = std::iter::once("module").chain(self.arguments.iter().copied());
        let words: Vec<String> = words.map(str::to_owned).collect();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: Vec<_> = self.environment.iter().map(owned).collect();
        let (input, output, errors) = (self.input.clone(), output.clone(), errors.clone());
        State::new(
            move |builder| {
                builder.args(&words).envs(&variables);
                builder.stdin(Given::new(input.clone()));
                builder.stdout(output.clone()).stderr(errors.clone());
            },
            self.memory,
        )
    }
}

impl Called {
    fn misused(why: String) -> Self {
        Self { output: Output::default(), errors: Output::default(), end: End::Misused(why) }
    }
}

/// Lets no more calls begin than there is room for.
#[derive(Debug, Default)]
struct Slots {
    taken: Mutex<u32>,
    freed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn take(&self) -> Slot<'_> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut u32| *taken == AT_ONCE;
        let taken = self.freed.wait_while(taken, is_full);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}
