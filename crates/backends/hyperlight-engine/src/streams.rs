//! What a guest reads and writes.

use std::io;
use std::time::{Duration, Instant};

use agentkernel_wasm_engine::{Input, Sink};

/// Standard streams, for a guest that waits while it is served.
pub(crate) trait Streams: Send {
    /// Reads what there is, however long that takes to come. Nothing is the end.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize>;

    /// Writes all of it, however long that takes, to standard output or error.
    fn write(&mut self, is_error: bool, bytes: &[u8]) -> io::Result<()>;

    /// Waits for so long, or without end, or until there is input if that is waited for, and returns whether
    /// there is.
    fn wait(&mut self, timeout: Option<Duration>, is_for_input: bool) -> bool;

    fn is_terminal(&self, stream: u32) -> bool;
}

/// Those of this process.
pub(crate) struct Own;

/// The longest wait at once, which is begun again.
const LONG: Duration = Duration::from_secs(3600);

impl Streams for Own {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        Input.read_some(to)
    }

    fn write(&mut self, is_error: bool, bytes: &[u8]) -> io::Result<()> {
        if is_error { Sink::Errors } else { Sink::Output }.write_all(bytes)
    }

    fn wait(&mut self, timeout: Option<Duration>, is_for_input: bool) -> bool {
        if !is_for_input {
            wait(timeout);
            return false;
        }
        let Some(timeout) = timeout else {
            while !Input.is_ready(LONG) {}
            return true;
        };
        let begin = Instant::now();
        loop {
            let left = timeout.saturating_sub(begin.elapsed());
            if Input.is_ready(left.min(LONG)) {
                return true;
            }
            if left <= LONG {
                return false;
            }
        }
    }

    fn is_terminal(&self, stream: u32) -> bool {
        match stream {
            0 => io::IsTerminal::is_terminal(&io::stdin()),
            1 => io::IsTerminal::is_terminal(&io::stdout()),
            _ => io::IsTerminal::is_terminal(&io::stderr()),
        }
    }
}

/// Waits for so long, or for ever.
pub(crate) fn wait(timeout: Option<Duration>) {
    let begin = Instant::now();
    loop {
        let left = timeout.map_or(LONG, |timeout| timeout.saturating_sub(begin.elapsed()));
        if left.is_zero() {
            return;
        }
        // Whoever unparks this thread means somebody else.
        std::thread::park_timeout(left);
    }
}
