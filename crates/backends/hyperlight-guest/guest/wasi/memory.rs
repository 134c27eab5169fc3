//! A module's memory, by its own addresses.

use alloc::string::String;

use crate::wasi::{Done, Errno};

pub(super) struct Memory<'a>(pub &'a mut [u8]);

impl Memory<'_> {
    pub fn get(&self, at: u32, len: u32) -> Done<&[u8]> {
        let (at, len) = (at as usize, len as usize);
        self.0.get(at..at + len).ok_or(Errno::FAULT)
    }

    pub fn get_mut(&mut self, at: u32, len: u32) -> Done<&mut [u8]> {
        let (at, len) = (at as usize, len as usize);
        self.0.get_mut(at..at + len).ok_or(Errno::FAULT)
    }

    pub fn u16(&self, at: u32) -> Done<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub fn u32(&self, at: u32) -> Done<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub fn u64(&self, at: u32) -> Done<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&self, at: u32) -> Done<[u8; N]> {
        let bytes = self.0.get(at as usize..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or(Errno::FAULT)
    }

    pub fn put(&mut self, at: u32, bytes: &[u8]) -> Done {
        self.get_mut(at, bytes.len() as u32)?.copy_from_slice(bytes);
        Ok(())
    }

    pub fn put_u32(&mut self, at: u32, value: u32) -> Done {
        self.put(at, &value.to_le_bytes())
    }

    pub fn put_u64(&mut self, at: u32, value: u64) -> Done {
        self.put(at, &value.to_le_bytes())
    }

    /// How many texts there are, and how long they are with a NUL behind each.
    pub fn put_sizes(&mut self, texts: &[String], count: u32, size: u32) -> Done {
        self.put_u32(count, texts.len() as u32)?;
        self.put_u32(size, texts.iter().map(|text| text.len() as u32 + 1).sum())
    }

    /// The texts with a NUL behind each, from `bytes` on, and where each begins, from `list` on.
    pub fn put_texts(&mut self, texts: &[String], mut list: u32, mut bytes: u32) -> Done {
        for text in texts {
            self.put_u32(list, bytes)?;
            self.put(bytes, text.as_bytes())?;
            bytes = next(bytes, text.len() as u32)?;
            self.put(bytes, &[0])?;
            bytes = next(bytes, 1)?;
            list = next(list, 4)?;
        }
        Ok(())
    }

    /// The first piece that is not empty of `count` ones, as where it is and how long it is.
    pub fn first_piece(&self, mut pieces: u32, count: u32) -> Done<(u32, u32)> {
        for _ in 0..count {
            let (at, len) = (self.u32(pieces)?, self.u32(next(pieces, 4)?)?);
            self.get(at, len)?;
            if len > 0 {
                return Ok((at, len));
            }
            pieces = next(pieces, 8)?;
        }
        Ok((0, 0))
    }
}

/// The address so much further on.
pub(super) fn next(at: u32, by: u32) -> Done<u32> {
    at.checked_add(by).ok_or(Errno::OVERFLOW)
}
