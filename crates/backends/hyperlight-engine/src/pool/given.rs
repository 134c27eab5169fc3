//! Streams in memory, of one call.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkernel_wasm_engine::{Called, End, Kept};
use bytes::{Buf, Bytes};

use crate::machine::lock;
use crate::streams::{self, Streams};

/// An input that is there as a whole, and what is kept of each output. All copies are of the same.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    input: Arc<Mutex<Bytes>>,
    output: Kept,
    errors: Kept,
    /// When the call's time is over, which is no time to wait for anything.
    over: Option<Instant>,
}

impl Given {
    pub fn new(input: Bytes, limit: Option<Duration>) -> Self {
        let (output, errors) = (Kept::default(), Kept::default());
        let over = limit.map(|limit| Instant::now() + limit);
        Self { input: Arc::new(Mutex::new(input)), output, errors, over }
    }

    pub fn tell(&self, errors: &[u8]) {
        self.errors.add(errors);
    }

    /// What came of the call.
    pub fn called(&self, end: End) -> Called {
        Called { output: self.output.take(), errors: self.errors.take(), end }
    }
}

impl Streams for Given {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut input = lock(&self.input);
        let length = to.len().min(input.len());
        input.copy_to_slice(&mut to[..length]);
        Ok(length)
    }

    fn write(&mut self, is_error: bool, bytes: &[u8]) -> io::Result<()> {
        if is_error { &self.errors } else { &self.output }.add(bytes);
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
