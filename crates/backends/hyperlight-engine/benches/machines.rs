//! How long micro-VMs take, and what memory.
//!
//! `cargo bench -p agentkernel-hyperlight-engine` prints medians. They are of whatever hypervisor there is:
//! where that is emulated, they say nothing of a real one.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use agentkernel_hyperlight_engine::{Pool, compile, measure, probe};
use agentkernel_wasm_engine::Call;

const ADD: &str = include_str!("../../wasm-engine/tests/modules/traps.wat");
const HELLO: &str = include_str!("../../wasm-engine/tests/modules/hello.wat");
const MEMORY: u64 = 64 << 20;
const ROUNDS: usize = 21;
const LIVE: usize = 100;

fn main() {
    let begin = Instant::now();
    if let Err(why) = probe() {
        println!("skipped: {why}");
        return;
    }
    let cold = begin.elapsed();
    println!("hypervisor                                {}", hypervisor());
    println!("compile, boot and run a module, cold      {}", shown(cold));
    let code = compile(ADD.as_bytes()).expect("code");
    let times = measure::times(&code, MEMORY, ROUNDS).expect("micro-VMs");
    println!("boot a guest                              {}", shown(times.boot));
    println!("a micro-VM of a snapshot, median          {}", shown(median(times.new)));
    println!("restore a micro-VM, median                {}", shown(median(times.restore)));
    println!("first call in a micro-VM, median          {}", shown(median(times.first)));
    println!("warm call in the same, median             {}", shown(median(times.warm)));
    println!("hand-out of a pool, median                {}", hand_out(&code));
    hello();
    live(&code);
}

/// The kernel's own word for what is beneath.
fn hypervisor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |name: &str| flags.split_whitespace().any(|flag| flag == name);
    match (has("vmx") || has("svm"), has("hypervisor")) {
        (true, false) => "KVM by the processor".into(),
        (true, true) => "KVM by a processor that is virtual itself: slower than a real one".into(),
        (false, _) => {
            "KVM without the processor's help, emulated: these are nobody's real times".into()
        }
    }
}

/// A thousand, each by itself, with a clock that is read twice for each.
fn hand_out(code: &[u8]) -> String {
    const SIZE: usize = 16;
    let pool = Pool::start(code, SIZE, MEMORY).expect("a pool");
    let clock = (0..1000).map(|_| Instant::now().elapsed()).collect();
    let mut all = Vec::new();
    while all.len() < 10 * SIZE {
        drop(pool.wait().expect("a micro-VM"));
        while pool.ready() < SIZE {
            std::thread::yield_now();
        }
        let leases: Vec<_> = (0..SIZE)
            .filter_map(|_| {
                let begin = Instant::now();
                let lease = black_box(pool.take());
                all.push(begin.elapsed());
                lease
            })
            .collect();
        drop(leases);
    }
    format!("{} (of which the clock {})", shown(median(all)), shown(median(clock)))
}

fn hello() {
    let code = compile(HELLO.as_bytes()).expect("code");
    let pool = Pool::start(&code, 4, MEMORY).expect("a pool");
    let time = |_| {
        let lease = pool.wait().expect("a micro-VM");
        let begin = Instant::now();
        let called = lease.call(&Call { memory: MEMORY, ..Call::default() });
        assert!(!called.output.bytes.is_empty(), "{:?}", called.end);
        begin.elapsed()
    };
    println!(
        "call of hello, by WASI, median            {}",
        shown(median((0..ROUNDS).map(time).collect()))
    );
}

fn live(code: &[u8]) {
    let before = memory();
    let pool = Pool::start(code, LIVE, MEMORY).expect("a pool");
    let after = memory();
    let each = |kind: usize| (after[kind].saturating_sub(before[kind])) / LIVE as u64;
    println!("memory each of {LIVE} alive, resident         {} KiB", each(0));
    println!("memory each of {LIVE} alive, proportional     {} KiB", each(1));
    drop(pool);
}

/// What of this process's memory is resident, and its share of that, in KiB.
fn memory() -> [u64; 2] {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    ["Rss:", "Pss:"].map(|name| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
    })
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
