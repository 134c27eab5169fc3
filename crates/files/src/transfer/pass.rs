//! An archive of somebody hostile, passed on as it is if it is no other than one that is made here.

use std::ffi::CStr;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use tar::EntryType;

use super::error::{TransferError, Transferred};
use super::tar_in::{Failure, Meter, Metered, parts, read_end};

const BUFFER: usize = 128 << 10;

/// Writes `input` to `out`. Every member must be a file, a link or a directory, at `top` or below it.
pub(super) fn pass_on(
    input: impl Read,
    top: Option<&CStr>,
    out: impl Write,
) -> Result<Transferred, TransferError> {
    let mut broken = None;
    let tee = Tee { input, out: BufWriter::with_capacity(BUFFER, out), broken: &mut broken };
    let passed = check(tee, top);
    match broken {
        Some(source) => Err(TransferError::Output { source }),
        None => passed,
    }
}

fn check<R: Read, W: Write>(
    tee: Tee<'_, R, W>,
    top: Option<&CStr>,
) -> Result<Transferred, TransferError> {
    let failed = |source| TransferError::Archive { source };
    let mut done = Transferred::default();
    let meter = Meter::default();
    let mut archive = tar::Archive::new(Metered::new(tee, meter.clone()));
    let mut entries = archive.entries().map_err(failed)?;
    let mut stored = 0;
    loop {
        // What a member holds is passed over with the header after it.
        meter.limit_after(stored);
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(failed)?;
        let refuse = |why: &'static str| {
            let member = PathBuf::from(String::from_utf8_lossy(&entry.path_bytes()).into_owned());
            Err(TransferError::Member { member, why: why.into() })
        };
        match parts(&entry.path_bytes()) {
            Err(Failure::Member(why)) => return refuse(why),
            Ok(parts) if top.is_none_or(|top| parts.first().is_some_and(|one| **one == *top)) => {}
            _ => return refuse("is not in what was asked for"),
        }
        match entry.header().entry_type() {
            EntryType::Directory => done.directories += 1,
            EntryType::Regular | EntryType::GNUSparse | EntryType::Symlink => {
                done.files += 1;
                done.bytes = done.bytes.saturating_add(entry.size());
            }
            _ => return refuse("is no file, link or directory"),
        }
        stored = entry.header().entry_size().map_err(failed)?;
    }
    let mut tee = archive.into_inner().into_inner();
    read_end(&mut tee).map_err(failed)?;
    tee.flush().map_err(|source| TransferError::Output { source })?;
    Ok(done)
}

/// Input that is written on as it is read.
struct Tee<'a, R, W: Write> {
    input: R,
    out: BufWriter<W>,
    /// Why it can't be written on.
    broken: &'a mut Option<io::Error>,
}

impl<R, W: Write> Tee<'_, R, W> {
    fn flush(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        match self.out.write_all(&buffer[..count]) {
            Ok(()) => Ok(count),
            Err(error) => {
                *self.broken = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}
