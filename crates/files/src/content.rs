//! What is in regular files: compared and copied.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

const BUFFER: usize = 128 * 1024;

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

/// Copies the first `len` bytes into the empty file `to`: by sharing them where the file system
/// can, else byte by byte, less the holes.
pub(crate) fn copy_content(from: &File, to: &File, len: u64) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(ftruncate(to, len)?);
    }
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while let Some((start, end)) = next_extent(from, at, len)? {
        at = start;
        while at < end {
            let part = part_of(end - at);
            let got = fill(from, &mut buffer[..part], at)?;
            to.write_all_at(&buffer[..got], at)?;
            if got < part {
                break;
            }
            at += part as u64;
        }
        at = end;
    }
    Ok(ftruncate(to, len)?)
}

/// The next bytes from `at` on, and before `len`, that are not a hole.
pub(crate) fn next_extent(file: &File, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= len {
        return Ok(None);
    }
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) if start >= len => Ok(None),
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?.min(len)))),
        // Nothing but a hole is left.
        Err(Errno::NXIO) => Ok(None),
        // The file system does not tell.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some((at, len))),
        Err(error) => Err(error.into()),
    }
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
