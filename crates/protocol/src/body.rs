//! The bodies of frames, value by value.

use std::ffi::CString;
use std::time::Duration;

use crate::{Frame, FrameError};

pub(crate) fn frame(kind: u8, fill: impl FnOnce(&mut Frame)) -> Frame {
    let mut frame = Frame::new(kind);
    fill(&mut frame);
    frame
}

/// A time in whole microseconds; half a million years are enough for anybody's processor time.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A body being read, value by value, to its exact end.
pub(crate) struct Body<'a> {
    kind: u8,
    rest: &'a [u8],
    read: usize,
}

impl<'a> Body<'a> {
    pub fn new(kind: u8, body: &'a [u8]) -> Self {
        Self { kind, rest: body, read: 0 }
    }

    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.read += N;
        let (value, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(FrameError::Body { kind: self.kind, expected: self.read })?;
        self.rest = rest;
        Ok(*value)
    }

    pub fn take_time(&mut self) -> Result<Duration, FrameError> {
        Ok(Duration::from_micros(u64::from_le_bytes(self.take()?)))
    }

    /// Takes a string with the NUL that ends it.
    pub fn take_string(&mut self) -> Result<CString, FrameError> {
        let end = self.rest.iter().position(|b| *b == 0);
        let end = end.ok_or(FrameError::Body { kind: self.kind, expected: self.read + 1 })?;
        let (string, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        self.read += end + 1;
        CString::new(string).map_err(|_| FrameError::Value(self.kind))
    }

    /// Takes a count, and so many strings. No room is made for more than there can be.
    pub fn take_strings(&mut self) -> Result<Vec<CString>, FrameError> {
        let count = u32::from_le_bytes(self.take()?) as usize;
        if count > self.rest.len() {
            return Err(FrameError::Body { kind: self.kind, expected: self.read + count });
        }
        (0..count).map(|_| self.take_string()).collect()
    }

    pub fn wrong<M>(&self) -> Result<M, FrameError> {
        Err(FrameError::Value(self.kind))
    }

    pub fn end<M>(self, message: M) -> Result<M, FrameError> {
        if self.rest.is_empty() {
            Ok(message)
        } else {
            Err(FrameError::Body { kind: self.kind, expected: self.read })
        }
    }
}
