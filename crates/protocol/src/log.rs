//! The log of a background command, which its agent writes and everybody may read later.
//!
//! It consists of records: a kind (1 byte), 3 zeros, a length (4 bytes, little endian), a time
//! (8 bytes, microseconds since 1970) and as many bytes as the length says. It is kept in two
//! files of at most [`LOG_FILE`] bytes: when one is full, the other is emptied and goes on. So the
//! latest output is there, and the amount is bounded. A third file of [`END_FILE`] bytes holds the
//! command's [`Ending`] once it has ended, so that nobody has to read the log for it, and a full
//! disk can't keep it out.

use std::time::Duration;

use crate::Status;

/// The most bytes of one of a log's two files.
pub const LOG_FILE: u64 = 4 << 20;

/// The file that holds the command's end, as it is before that.
pub const END_FILE: [u8; 2] = [255; 2];

/// The most bytes of one record's text.
pub const MAX_RECORD: usize = 64 * 1024;

/// The bytes of a record before its text.
pub const RECORD_HEADER: usize = 16;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Written to standard output.
    Output,
    /// Written to standard error.
    Errors,
    /// The command has ended: [`Ending`]. What it left behind may still write.
    Ended,
}

/// How a background command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Died(Status),
    TimedOut,
}

/// A record's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    pub kind: RecordKind,
    /// How many bytes of text follow, at most [`MAX_RECORD`].
    pub length: usize,
    /// Since 1970, by the host's clock.
    pub at: Duration,
}

impl RecordHeader {
    pub fn encode(&self) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[0] = match self.kind {
            RecordKind::Output => 1,
            RecordKind::Errors => 2,
            RecordKind::Ended => 3,
        };
        bytes[4..8].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        let micros = u64::try_from(self.at.as_micros()).unwrap_or(u64::MAX);
        bytes[8..].copy_from_slice(&micros.to_le_bytes());
        bytes
    }

    /// Reads a header, or finds that it is none.
    pub fn parse(bytes: &[u8; RECORD_HEADER]) -> Option<Self> {
        let [kind, 0, 0, 0, a, b, c, d, at @ ..] = *bytes else { return None };
        let kind = match kind {
            1 => RecordKind::Output,
            2 => RecordKind::Errors,
            3 => RecordKind::Ended,
            _ => return None,
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let at = Duration::from_micros(u64::from_le_bytes(at));
        (length <= MAX_RECORD).then_some(Self { kind, length, at })
    }
}

impl Ending {
    pub fn encode(self) -> [u8; 2] {
        match self {
            Self::Died(Status::Exited(code)) => [0, code],
            Self::Died(Status::Signaled(signal)) => [1, signal],
            Self::TimedOut => [2, 0],
        }
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [0, code] => Some(Self::Died(Status::Exited(code))),
            [1, signal @ 1..=64] => Some(Self::Died(Status::Signaled(signal))),
            [2, 0] => Some(Self::TimedOut),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for kind in [RecordKind::Output, RecordKind::Errors, RecordKind::Ended] {
            let at = Duration::from_micros(1_764_000_000_000_001);
            let header = RecordHeader { kind, length: MAX_RECORD, at };
            assert_eq!(RecordHeader::parse(&header.encode()), Some(header));
        }
        let too_long =
            RecordHeader { kind: RecordKind::Output, length: MAX_RECORD + 1, at: Duration::ZERO };
        assert_eq!(RecordHeader::parse(&too_long.encode()), None);
        assert_eq!(RecordHeader::parse(&[0; RECORD_HEADER]), None);
    }

    #[test]
    fn an_ending_is_read_as_it_was_written() {
        for ending in [
            Ending::Died(Status::Exited(255)),
            Ending::Died(Status::Signaled(64)),
            Ending::TimedOut,
        ] {
            assert_eq!(Ending::parse(&ending.encode()), Some(ending));
        }
        for bytes in [&END_FILE[..], &[], &[1, 0], &[1, 65], &[3, 0], &[0, 1, 2]] {
            assert_eq!(Ending::parse(bytes), None);
        }
    }
}
