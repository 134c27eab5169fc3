//! Bytes to frames and back.

/// The largest frame, in bytes, its length and kind included.
pub const MAX_FRAME: usize = 256;

const LENGTH: usize = 4;

/// Why a stream of bytes is no stream of frames. The link that carried it is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes, where 1 to {max} are allowed", max = MAX_FRAME - LENGTH)]
    Length(u32),
    #[error("a message of unknown kind {0}")]
    Kind(u8),
    #[error("a message of kind {kind} whose body is not {expected} bytes long")]
    Body { kind: u8, expected: usize },
    #[error("a message of kind {0} with a value that is out of range")]
    Value(u8),
}

/// One encoded frame, ready to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    bytes: [u8; MAX_FRAME],
    len: usize,
}

impl Frame {
    /// A frame of `kind` with an empty body.
    pub(crate) fn new(kind: u8) -> Self {
        let mut frame = Self { bytes: [0; MAX_FRAME], len: LENGTH };
        frame.put([kind]);
        frame
    }

    /// Appends a value's bytes to the body. Bodies are a few numbers, far below [`MAX_FRAME`].
    pub(crate) fn put<const N: usize>(&mut self, value: [u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(&value);
        self.len += N;
        let length = (self.len - LENGTH) as u32;
        self.bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
    }

    /// The frame as it goes over the link.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Cuts a stream of bytes into frames, however the bytes arrive.
#[derive(Debug)]
pub struct Decoder {
    bytes: [u8; MAX_FRAME],
    filled: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { bytes: [0; MAX_FRAME], filled: 0 }
    }
}

impl Decoder {
    /// Takes bytes from the front of `input` and returns the first message completed by them, if
    /// any. Call it until `input` is empty. After an error the stream is lost.
    pub fn next<M>(
        &mut self,
        input: &mut &[u8],
        parse: impl FnOnce(u8, &[u8]) -> Result<M, FrameError>,
    ) -> Result<Option<M>, FrameError> {
        self.fill(input, LENGTH);
        if self.filled < LENGTH {
            return Ok(None);
        }
        let mut length = [0; LENGTH];
        length.copy_from_slice(&self.bytes[..LENGTH]);
        let length = u32::from_le_bytes(length);
        if length == 0 || length as usize > MAX_FRAME - LENGTH {
            return Err(FrameError::Length(length));
        }
        let end = LENGTH + length as usize;
        self.fill(input, end);
        if self.filled < end {
            return Ok(None);
        }
        self.filled = 0;
        parse(self.bytes[LENGTH], &self.bytes[LENGTH + 1..end]).map(Some)
    }

    /// Takes from `input` until `end` bytes are held, or `input` is empty.
    fn fill(&mut self, input: &mut &[u8], end: usize) {
        let take = end.saturating_sub(self.filled).min(input.len());
        let (head, rest) = input.split_at(take);
        self.bytes[self.filled..self.filled + take].copy_from_slice(head);
        self.filled += take;
        *input = rest;
    }
}
