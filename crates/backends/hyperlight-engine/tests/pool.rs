//! Micro-VMs of a pool, in this process.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use agentkernel_hyperlight_engine::{Pool, compile, probe};
use agentkernel_wasm_engine::{Call, End};

const TRAPS: &str = include_str!("../../wasm-engine/tests/modules/traps.wat");
const COPY: &str = include_str!("../../wasm-engine/tests/modules/copy.wat");
const SLEEP: &str = include_str!("../../wasm-engine/tests/modules/sleep.wat");
const RANDOM: &str = include_str!("../../wasm-engine/tests/modules/random.wat");
const MEMORY: u64 = 64 << 20;

/// A pool of a module, or none where there are no micro-VMs.
fn pool(module: &str, size: usize) -> Option<Pool> {
    if let Err(why) = probe() {
        println!("skipped: {why}");
        return None;
    }
    Some(Pool::start(&compile(module.as_bytes()).unwrap(), size, MEMORY).unwrap())
}

fn call<'a>(function: &'a str, arguments: &'a [&'a str]) -> Call<'a> {
    Call { function: Some(function), arguments, memory: MEMORY, ..Call::default() }
}

#[test]
fn each_call_has_a_machine_that_nobody_had_before() {
    let Some(pool) = pool(RANDOM, 2) else { return };
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        let called = pool.wait().unwrap().call(&Call { memory: MEMORY, ..Call::default() });
        assert_eq!(called.end, End::Exited(0));
        assert_eq!(called.output.bytes.len(), 16);
        assert!(seen.insert(called.output.bytes), "random numbers came twice");
    }
}

#[test]
fn input_and_output_pass_byte_for_byte() {
    let Some(pool) = pool(COPY, 1) else { return };
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let call = Call { input: bytes.clone().into(), memory: MEMORY, ..Call::default() };
    let called = pool.wait().unwrap().call(&call);
    assert_eq!(called.end, End::Exited(0));
    assert!(called.output.bytes == bytes);
}

#[test]
fn a_machine_serves_again_whatever_has_happened_in_it() {
    let Some(pool) = pool(TRAPS, 1) else { return };
    for (function, expected) in [("divide", Some(8)), ("recurse", Some(11)), ("add", None)] {
        let arguments: &[&str] = if function == "add" { &["2", "3"] } else { &[] };
        let called = pool.wait().unwrap().call(&call(function, arguments));
        match (called.end, expected) {
            (End::Trapped { signal, .. }, Some(expected)) => assert_eq!(signal, expected),
            (End::Exited(0), None) => assert_eq!(called.output.bytes, b"5\n"),
            (end, _) => panic!("{function} has ended with {end:?}"),
        }
    }
}

#[test]
fn a_loop_is_interrupted_and_its_machine_replaced() {
    let Some(pool) = pool(TRAPS, 1) else { return };
    let limit = Duration::from_millis(100);
    let begin = Instant::now();
    let looping = Call { time_limit: Some(limit), ..call("loop", &[]) };
    assert_eq!(pool.wait().unwrap().call(&looping).end, End::TimedOut);
    assert!(begin.elapsed() >= limit);
    let called = pool.wait().unwrap().call(&call("add", &["2", "3"]));
    assert_eq!(called.output.bytes, b"5\n");
}

#[test]
fn a_wait_is_interrupted_as_well() {
    let Some(pool) = pool(SLEEP, 1) else { return };
    let limit = Some(Duration::from_millis(100));
    let waiting = Call { time_limit: limit, ..call("sleep", &[]) };
    let begin = Instant::now();
    let end = pool.wait().unwrap().call(&waiting).end;
    assert!(begin.elapsed() < Duration::from_secs(30), "{end:?}");
    assert_eq!(end, End::TimedOut);
}

#[test]
fn an_empty_pool_has_none_to_hand_out() {
    let Some(pool) = pool(TRAPS, 1) else { return };
    let lease = pool.take();
    assert!(lease.is_some());
    assert!(pool.take().is_none());
}
