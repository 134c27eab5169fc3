//! Bytes to frames and back.

/// The largest frame that an agent says, in bytes, its length and kind included.
pub const MAX_FRAME: usize = 256;

/// The largest frame that an agent hears, likewise: the strings of a command, of which the kernel
/// takes 2 MiB as a rule.
pub const MAX_LONG_FRAME: usize = 4 << 20;

const LENGTH: usize = 4;

/// Why a stream of bytes is no stream of frames. The link that carried it is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {length} bytes, where 1 to {most} are allowed")]
    Length { length: u32, most: usize },
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

/// A long frame in the making.
#[derive(Debug)]
pub(crate) struct LongFrame(Vec<u8>);

impl LongFrame {
    pub(crate) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The frame as it goes over the link.
    pub(crate) fn into_bytes(mut self) -> Result<Vec<u8>, FrameError> {
        let length = u32::try_from(self.0.len() - LENGTH).unwrap_or(u32::MAX);
        let most = MAX_LONG_FRAME - LENGTH;
        if length as usize > most {
            return Err(FrameError::Length { length, most });
        }
        self.0[..LENGTH].copy_from_slice(&length.to_le_bytes());
        Ok(self.0)
    }
}

/// Cuts a stream of bytes into frames, however the bytes arrive. It allocates nothing.
pub type Decoder = FrameDecoder<[u8; MAX_FRAME]>;

/// Cuts a stream with long frames. It holds no more than has arrived.
pub type LongDecoder = FrameDecoder<Vec<u8>>;

/// A decoder that keeps what has arrived of a frame in `B`.
#[derive(Debug)]
pub struct FrameDecoder<B> {
    bytes: B,
    filled: usize,
}

/// Room for one frame.
pub trait FrameBuffer: AsRef<[u8]> {
    /// The largest frame that it takes.
    const MOST: usize;

    /// Writes `bytes` at `at`, where `at` bytes were written before; together no more than `MOST`.
    fn write(&mut self, at: usize, bytes: &[u8]);
}

impl FrameBuffer for [u8; MAX_FRAME] {
    const MOST: usize = MAX_FRAME;

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl FrameBuffer for Vec<u8> {
    const MOST: usize = MAX_LONG_FRAME;

    fn write(&mut self, at: usize, bytes: &[u8]) {
        /// What a usual frame needs; a long one gives its room back.
        const USUAL: usize = 64 * 1024;
        self.truncate(at);
        if at == 0 && self.capacity() > USUAL {
            *self = Self::new();
        }
        self.extend_from_slice(bytes);
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self { bytes: [0; MAX_FRAME], filled: 0 }
    }
}

impl Default for LongDecoder {
    fn default() -> Self {
        Self { bytes: Vec::new(), filled: 0 }
    }
}

impl<B: FrameBuffer> FrameDecoder<B> {
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
        length.copy_from_slice(&self.bytes.as_ref()[..LENGTH]);
        let length = u32::from_le_bytes(length);
        let most = B::MOST - LENGTH;
        if length == 0 || length as usize > most {
            return Err(FrameError::Length { length, most });
        }
        let end = LENGTH + length as usize;
        self.fill(input, end);
        if self.filled < end {
            return Ok(None);
        }
        self.filled = 0;
        let bytes = self.bytes.as_ref();
        parse(bytes[LENGTH], &bytes[LENGTH + 1..end]).map(Some)
    }

    /// Takes from `input` until `end` bytes are held, or `input` is empty.
    fn fill(&mut self, input: &mut &[u8], end: usize) {
        let take = end.saturating_sub(self.filled).min(input.len());
        if take > 0 {
            let (head, rest) = input.split_at(take);
            self.bytes.write(self.filled, head);
            self.filled += take;
            *input = rest;
        }
    }
}
