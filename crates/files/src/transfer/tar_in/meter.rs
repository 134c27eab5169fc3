//! How much of an archive may be read into memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// How long what stands before a member may be, in bytes: its header, its long names, its attributes. All of it is
/// kept in memory, and as long as the archive says.
const LONGEST: u64 = 1 << 20;

/// Limits what a [`Metered`] may read.
#[derive(Clone, Default)]
pub(in crate::transfer) struct Meter(Rc<Cell<Option<u64>>>);

impl Meter {
    /// Lets only a header be read.
    pub fn limit(&self) {
        self.0.set(Some(LONGEST));
    }

    /// The same, behind `stored` bytes of the member before, and what fills their last block.
    pub fn limit_after(&self, stored: u64) {
        const BLOCK: u64 = 512;
        self.0.set(Some(stored.saturating_add(BLOCK + LONGEST)));
    }

    pub fn unlimit(&self) {
        self.0.set(None);
    }
}

/// Input that ends with an error at the meter's limit.
pub(in crate::transfer) struct Metered<R> {
    input: R,
    meter: Meter,
}

impl<R: Read> Metered<R> {
    pub fn new(input: R, meter: Meter) -> Self {
        Self { input, meter }
    }

    pub fn into_inner(self) -> R {
        self.input
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.meter.0.get() else { return self.input.read(buffer) };
        if left == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a member's header is too long",
            ));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.input.read(&mut buffer[..most])?;
        self.meter.0.set(Some(left - count as u64));
        Ok(count)
    }
}
