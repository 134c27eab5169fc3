//! Streams in memory, of one call.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agentkernel_wasm_engine::{Called, End, Output};
use bytes::{Buf, Bytes};

use crate::streams::{self, Streams};

/// How much of an output is kept.
const MOST_OUTPUT: usize = 4 << 20;

/// An input that is there as a whole, and the beginning of each output. All copies are of the same.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    all: Arc<Mutex<All>>,
    /// When the call's time is over, which is no time to wait for anything.
    over: Option<Instant>,
}

#[derive(Debug, Default)]
struct All {
    input: Bytes,
    output: Output,
    errors: Output,
}

impl Given {
    pub fn new(input: Bytes, limit: Option<Duration>) -> Self {
        let all = Arc::new(Mutex::new(All { input, ..All::default() }));
        Self { all, over: limit.map(|limit| Instant::now() + limit) }
    }

    pub fn tell(&self, errors: &[u8]) {
        add(&mut self.lock().errors, errors);
    }

    /// What came of the call.
    pub fn called(&self, end: End) -> Called {
        let mut all = self.lock();
        let (output, errors) = (std::mem::take(&mut all.output), std::mem::take(&mut all.errors));
        Called { output, errors, end }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rest is dropped, and the writer not told.
fn add(output: &mut Output, bytes: &[u8]) {
    let room = MOST_OUTPUT - output.bytes.len();
    output.is_cut |= bytes.len() > room;
    output.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Streams for Given {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let input = &mut self.lock().input;
        let length = to.len().min(input.len());
        input.copy_to_slice(&mut to[..length]);
        Ok(length)
    }

    fn write(&mut self, is_error: bool, bytes: &[u8]) -> io::Result<()> {
        let mut all = self.lock();
        add(if is_error { &mut all.errors } else { &mut all.output }, bytes);
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, is_for_input: bool) -> bool {
        if !is_for_input {
            let left = self.over.map(|over| over.saturating_duration_since(Instant::now()));
            streams::wait([timeout, left].into_iter().flatten().min());
        }
        is_for_input
    }

    fn is_terminal(&self, _: u32) -> bool {
        false
    }
}
