//! What is in regular files, compared and copied.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// What is asked of the kernel at a time, in bytes. It is also how late a signal may be.
const STRIDE: u64 = 64 << 20;
/// What goes through memory at a time where the kernel can't copy, in bytes.
const BUFFER: usize = 128 << 10;

/// Copies files' contents, by sharing them where the file system can.
#[derive(Debug)]
pub(crate) struct Contents {
    can_share: bool,
    buffer: Vec<u8>,
    /// How many files with contents were shared.
    pub shared: u64,
    /// How many had to be copied.
    pub copied: u64,
}

impl Contents {
    pub fn new() -> Self {
        Self { can_share: true, buffer: Vec::new(), shared: 0, copied: 0 }
    }

    /// Makes the empty file `to` what the first `length` bytes of `from` are, holes included. A file that grows
    /// meanwhile is cut off there, and one that shrinks ends where it ends.
    pub fn copy(&mut self, from: &File, to: &File, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        if self.share(from, to)? {
            self.shared += 1;
            // That took what was there by then.
            return if to.metadata()?.len() > length { to.set_len(length) } else { Ok(()) };
        }
        self.copied += 1;
        let mut end = length;
        for_each_extent(from, length, |start, stop| {
            let reached = self.copy_range(from, to, start, stop)?;
            if reached < stop {
                end = reached;
            }
            Ok(reached == stop)
        })?;
        to.set_len(end)
    }

    fn share(&mut self, from: &File, to: &File) -> io::Result<bool> {
        if !self.can_share {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => Ok(true),
            Err(Errno::NOSPC | Errno::DQUOT) => Err(Errno::NOSPC.into()),
            // Those are about the two file systems; others may be about this file.
            Err(errno) => {
                self.can_share =
                    !matches!(errno, Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::XDEV);
                Ok(false)
            }
        }
    }

    /// Copies the bytes from `start` to `end` and says how far it got before the file ended.
    fn copy_range(&mut self, from: &File, to: &File, start: u64, end: u64) -> io::Result<u64> {
        let mut position = start;
        while position < end {
            let (mut read, mut write) = (position, position);
            let stride = usize::try_from((end - position).min(STRIDE)).unwrap_or(BUFFER);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), stride) {
                // Some file systems say so where they only can't.
                Ok(0) => return self.read_range(from, to, position, end),
                Ok(count) => position += count as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    return self.read_range(from, to, position, end);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(position)
    }

    fn read_range(&mut self, from: &File, to: &File, start: u64, end: u64) -> io::Result<u64> {
        self.buffer.resize(BUFFER, 0);
        let mut position = start;
        while position < end {
            let most = usize::try_from(end - position).unwrap_or(BUFFER).min(BUFFER);
            match from.read_at(&mut self.buffer[..most], position) {
                Ok(0) => break,
                Ok(count) => {
                    to.write_all_at(&self.buffer[..count], position)?;
                    position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(position)
    }
}

/// Calls `each` with the start and the end of every stretch of `file`'s first `length` bytes that is no hole, in
/// order, until it says `false`.
pub(crate) fn for_each_extent(
    file: &File,
    length: u64,
    mut each: impl FnMut(u64, u64) -> io::Result<bool>,
) -> io::Result<()> {
    let mut position = 0;
    while position < length {
        let start = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(start) => start.max(position),
            // Nothing but a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            // A file system that doesn't know of holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => position,
            Err(errno) => return Err(errno.into()),
        };
        if start >= length {
            return Ok(());
        }
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            // No progress means that the file changed; what is left counts as data then.
            Ok(end) if end > start => end.min(length),
            _ => length,
        };
        if !each(start, end)? {
            return Ok(());
        }
        position = end;
    }
    Ok(())
}

/// Whether the first `len` bytes of two files are the same, and both have so many.
pub(crate) fn same_content(one: &File, other: &File, len: u64) -> io::Result<bool> {
    let (mut ours, mut theirs) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    while at < len {
        let part = part_of(len - at);
        let (ours, theirs) = (&mut ours[..part], &mut theirs[..part]);
        if fill(one, ours, at)? < part || fill(other, theirs, at)? < part || ours != theirs {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(true)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn part_of(left: u64) -> usize {
    usize::try_from(left).unwrap_or(BUFFER).min(BUFFER)
}
