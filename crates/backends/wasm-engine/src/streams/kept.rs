//! Streams in memory, for calls in this process.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::Output;

/// How much of an output is kept.
const MOST: usize = 4 << 20;
/// What a module may write without asking again.
const AT_ONCE: usize = 64 << 10;

/// An input that is there as a whole. Copies of it share what is left.
#[derive(Debug, Clone)]
pub(crate) struct Given(Arc<Mutex<Bytes>>);

impl Given {
    pub fn new(input: Bytes) -> Self {
        Self(Arc::new(Mutex::new(input)))
    }
}

/// Keeps the first 4 MiB of what is written. The rest is dropped, and the writer not told. Copies of it are
/// of the same output.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<Output>>);

impl Kept {
    pub fn add(&self, bytes: &[u8]) {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST - output.bytes.len();
        output.is_cut |= bytes.len() > room;
        output.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// What there is so far, which is then gone from here.
    pub fn take(&self) -> Output {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Pollable for Given {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Given {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_empty() {
            return Err(StreamError::Closed);
        }
        let len = size.min(left.len());
        Ok(left.split_to(len))
    }
}

#[async_trait]
impl Pollable for Kept {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Kept {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(AT_ONCE)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write(bytes)
    }
}

impl IsTerminal for Given {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl IsTerminal for Kept {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Given {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl StdoutStream for Kept {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
