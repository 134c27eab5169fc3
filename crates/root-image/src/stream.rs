//! A part of a file that is written in order.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use crate::RootImageError;
use crate::erofs::BLOCK;

/// How much is written at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// From how many bytes on a file's blocks may be shared. It takes more calls, and below there is little
/// to be shared.
const SMALL: u64 = 8 << 10;

pub(crate) struct Stream<'a> {
    file: &'a File,
    /// Where what is waiting goes.
    at: u64,
    waiting: Vec<u8>,
}

/// Why a file was not copied.
pub(crate) enum NotCopied {
    /// It is not as long as was said.
    Length,
    Read(io::Error),
    Write(RootImageError),
}

impl<'a> Stream<'a> {
    /// From this byte of the file on.
    pub fn new(file: &'a File, at: u64) -> Self {
        Self { file, at, waiting: Vec::with_capacity(BUFFER) }
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.at + self.waiting.len() as u64
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RootImageError> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Fills with zeros what is left before a place that is less than a block away.
    pub fn fill_to(&mut self, position: u64) -> Result<(), RootImageError> {
        let zeros = [0; BLOCK];
        // The layout leaves no more.
        self.write(&zeros[..(position - self.position()) as usize])
    }

    /// Fills the rest of a block that was begun.
    pub fn fill_block(&mut self) -> Result<(), RootImageError> {
        self.fill_to(self.position().next_multiple_of(BLOCK as u64))
    }

    pub fn flush(&mut self) -> Result<(), RootImageError> {
        self.file.write_all_at(&self.waiting, self.at).map_err(RootImageError::Write)?;
        self.at += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Copies a file of this size. What was a hole is one, and where the file system can, the copy
    /// shares its blocks with the original.
    pub fn copy(&mut self, from: &File, size: u64) -> Result<(), NotCopied> {
        let read = |errno: Errno| NotCopied::Read(errno.into());
        if size < SMALL {
            return self.take(from, size as usize);
        }
        self.flush().map_err(NotCopied::Write)?;
        let mut at = 0;
        while at < size {
            let start = match seek(from, SeekFrom::Data(at)) {
                // All that is left is a hole.
                Err(Errno::NXIO) => break,
                start => start.map_err(read)?,
            };
            let end = seek(from, SeekFrom::Hole(start)).map_err(read)?.min(size);
            self.copy_range(from, start, end)?;
            at = end.max(start + 1);
        }
        self.at += size;
        Ok(())
    }

    fn take(&mut self, from: &File, size: usize) -> Result<(), NotCopied> {
        let begin = self.waiting.len();
        self.waiting.resize(begin + size, 0);
        from.read_exact_at(&mut self.waiting[begin..], 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => NotCopied::Length,
            _ => NotCopied::Read(error),
        })?;
        self.write(&[]).map_err(NotCopied::Write)
    }

    fn copy_range(&self, from: &File, start: u64, end: u64) -> Result<(), NotCopied> {
        let mut at = start;
        while at < end {
            let (mut source, mut target) = (at, self.at + at);
            let count = (end - at).min(1 << 30) as usize;
            let copied = copy_file_range(
                from.as_fd(),
                Some(&mut source),
                self.file.as_fd(),
                Some(&mut target),
                count,
            );
            match copied {
                Ok(0) => return Err(NotCopied::Length),
                Ok(count) => at += count as u64,
                Err(Errno::INTR) => {}
                // Of another file system, or of one that can't.
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    at += self.copy_piece(from, at, end)?;
                }
                Err(errno) => {
                    return Err(NotCopied::Write(RootImageError::Write(errno.into())));
                }
            }
        }
        Ok(())
    }

    /// Copies some of it by reading and writing, and says how much.
    fn copy_piece(&self, from: &File, at: u64, end: u64) -> Result<u64, NotCopied> {
        let mut piece = vec![0; (end - at).min(BUFFER as u64) as usize];
        match from.read_at(&mut piece, at) {
            Ok(0) => Err(NotCopied::Length),
            Ok(count) => {
                let written = self.file.write_all_at(&piece[..count], self.at + at);
                written.map_err(|error| NotCopied::Write(RootImageError::Write(error)))?;
                Ok(count as u64)
            }
            Err(error) => Err(NotCopied::Read(error)),
        }
    }
}
