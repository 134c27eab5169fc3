//! How much an image may unpack to.

use crate::UnpackError;

/// The most that an image may unpack to, in bytes.
const MOST_BYTES: u64 = 64 << 30;

/// The most members that its layers' archives may have.
const MOST_ENTRIES: u64 = 10_000_000;

/// What is left of what an image may unpack to. A disk that is full is noticed besides.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub bytes: u64,
    pub entries: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: MOST_BYTES, entries: MOST_ENTRIES }
    }
}

impl Bounds {
    pub(crate) fn count_entry(&mut self) -> Result<(), UnpackError> {
        self.entries = self.entries.checked_sub(1).ok_or(UnpackError::TooManyEntries)?;
        Ok(())
    }

    /// Bytes that a file holds besides those in the archive.
    pub(crate) fn count_bytes(&mut self, count: u64) -> Result<(), UnpackError> {
        self.bytes = self.bytes.checked_sub(count).ok_or(UnpackError::TooManyBytes)?;
        Ok(())
    }
}
