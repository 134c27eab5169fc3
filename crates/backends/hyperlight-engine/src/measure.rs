//! The steps of a micro-VM's life, timed one by one. For the benchmark.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentkernel_hyperlight_guest::Request;
use agentkernel_sys::mapping::Mapping;
use bytes::Bytes;

use crate::machine::{Machine, MachineError, Template};
use crate::pool::given::Given;

/// How long each took.
#[derive(Debug, Default)]
pub struct Times {
    pub boot: Duration,
    /// Of a new micro-VM from a snapshot that has the module loaded.
    pub new: Vec<Duration>,
    /// Of the first call in one.
    pub first: Vec<Duration>,
    /// Of another call in the same.
    pub warm: Vec<Duration>,
    pub restore: Vec<Duration>,
}

/// Times a module that exports `add`.
pub fn times(code: &[u8], memory: u64, rounds: usize) -> Result<Times, MachineError> {
    let unable = |error: std::io::Error| MachineError::Unavailable(error.to_string());
    let code = Arc::new(Mapping::of_bytes(code).map_err(unable)?);
    let mut times = Times::default();
    let template =
        timed(&mut |time| times.boot = time, || Template::boot(memory))?.loaded(&code)?;
    for _ in 0..rounds {
        let mut machine = timed(&mut |time| times.new.push(time), || template.machine())?;
        timed(&mut |time| times.first.push(time), || add(&mut machine, memory))?;
        timed(&mut |time| times.warm.push(time), || add(&mut machine, memory))?;
        timed(&mut |time| times.restore.push(time), || machine.restore(&template))?;
    }
    Ok(times)
}

fn timed<T>(keep: &mut dyn FnMut(Duration), action: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = action();
    keep(begin.elapsed());
    result
}

/// A call that asks nothing of the host but to take its result.
fn add(machine: &mut Machine, memory: u64) -> Result<(), MachineError> {
    let arguments = ["module", "2", "3"].map(String::from).into();
    let function = Some("add".to_owned());
    let request = Request { memory, function, arguments, ..Request::default() };
    machine.run(&request, Box::new(Given::new(Bytes::new(), None))).map(drop)
}
