//! How long calls of modules take in process, next to bare wasmtime in the same run.
//!
//! `cargo bench -p agentkernel-wasm-engine` prints medians; what is compared takes turns.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use agentkernel_wasm_engine::{Call, Host, Loaded, compile, config};
use wasmtime::{
    Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig, Store,
};

const HELLO: &str = include_str!("../tests/modules/hello.wat");
const ADD: &str = include_str!("../tests/modules/traps.wat");
const ROUNDS: usize = 51;
const AT_ONCE: usize = 100;

fn main() {
    let (host, bare) = (Host::new().expect("a host"), Bare::new());
    let load = |text: &str| {
        let code = compile(text.as_bytes()).expect("code");
        let begin = Instant::now();
        let loaded = host.load(&code).expect("loaded");
        (loaded, begin.elapsed())
    };
    let ((hello, _), (add, loading)) = (load(HELLO), load(ADD));
    println!("load compiled code                        {}", shown(loading));

    let (one, of_bare, of_hello) = alternately(&add, &hello, &bare);
    println!("bare wasmtime, instantiate and call add   {}", shown(of_bare));
    println!("one call of add                           {}", shown(one));
    println!(
        "    times bare                            {:.2}",
        one.as_secs_f64() / of_bare.as_secs_f64()
    );
    println!("one call of hello, by WASI                {}", shown(of_hello));

    for (name, loaded, call) in [("add", &add, add_call()), ("hello", &hello, hello_call())] {
        let all: Vec<_> = (0..ROUNDS).map(|_| at_once(loaded, &call)).collect();
        println!("{AT_ONCE} calls of {name} at once, in all         {}", shown(median(all)));
        println!("calls of {name} a second, sustained       {:.0}", sustained(loaded, &call));
    }
}

fn add_call() -> Call<'static> {
    Call { function: Some("add"), arguments: &["2", "3"], ..hello_call() }
}

/// As somebody would call who doesn't trust the module.
fn hello_call() -> Call<'static> {
    Call { memory: 64 << 20, time_limit: Some(Duration::from_secs(10)), ..Call::default() }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        micros if micros < 1000.0 => format!("{micros:.2} µs"),
        micros => format!("{:.2} ms", micros / 1000.0),
    }
}

/// The mean of a few thousand calls of each, the median of those.
fn alternately(
    add: &Loaded<'_>,
    hello: &Loaded<'_>,
    bare: &Bare,
) -> (Duration, Duration, Duration) {
    const CALLS: u32 = 2000;
    let time = |action: &dyn Fn()| {
        let begin = Instant::now();
        (0..CALLS).for_each(|_| action());
        begin.elapsed() / CALLS
    };
    let (add_call, hello_call) = (add_call(), hello_call());
    let (mut ours, mut theirs, mut hellos) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(time(&|| drop(black_box(add.call(&add_call)))));
        theirs.push(time(&|| bare.add()));
        hellos.push(time(&|| drop(black_box(hello.call(&hello_call)))));
    }
    (median(ours), median(theirs), median(hellos))
}

/// From the moment that all threads may begin to the last one's output.
fn at_once(loaded: &Loaded<'_>, call: &Call<'_>) -> Duration {
    let (ready, go) = (Barrier::new(AT_ONCE + 1), Barrier::new(AT_ONCE + 1));
    let mut begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                ready.wait();
                go.wait();
                assert!(!loaded.call(call).output.bytes.is_empty());
            });
        }
        ready.wait();
        begin = Instant::now();
        go.wait();
    });
    begin.elapsed()
}

/// With as many threads as there are processors.
fn sustained(loaded: &Loaded<'_>, call: &Call<'_>) -> f64 {
    const TIME: Duration = Duration::from_secs(2);
    let count = thread::available_parallelism().map_or(1, usize::from);
    let begin = Instant::now();
    let work = || {
        let mut calls = 0_u32;
        while begin.elapsed() < TIME {
            assert!(!loaded.call(call).output.bytes.is_empty());
            calls += 1;
        }
        calls
    };
    let calls: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("calls")).sum()
    });
    f64::from(calls) / begin.elapsed().as_secs_f64()
}

/// wasmtime as it comes, with its own pool, and the same code.
struct Bare {
    engine: Engine,
    add: InstancePre<()>,
}

impl Bare {
    fn new() -> Self {
        let mut config = config();
        let pool = PoolingAllocationConfig::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::new(&engine, wat::parse_str(ADD).expect("a text")).expect("a module");
        let add = Linker::new(&engine).instantiate_pre(&module).expect("linked");
        Self { engine, add }
    }

    fn add(&self) {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(1);
        let instance = self.add.instantiate(&mut store).expect("an instance");
        let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add").expect("add");
        assert_eq!(black_box(add.call(&mut store, (2, 3)).expect("a call")), 5);
    }
}
