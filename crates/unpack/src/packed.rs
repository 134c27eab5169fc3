//! Archives that are packed, unpacked beside whoever reads them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use agentkernel_images::{Digest, Hasher};
use flate2::bufread::MultiGzDecoder;

use crate::UnpackError;

/// What is unpacked at a time, in bytes, and how many of that wait to be read.
const PIECE: usize = 128 << 10;
const WAITING: usize = 8;

/// The most memory that unpacking may look back on: 128 MiB, as all tools for images have it.
const WINDOW_LOG: u32 = 27;

/// How a stream is packed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// How many bytes have to be looked at.
    const SEEN: u64 = 6;

    /// Refuses what nobody packs layers with.
    pub fn of(start: &[u8]) -> Result<Self, UnpackError> {
        let zstd = |start: &[u8]| match start.first_chunk() {
            // A frame, or one to be passed over.
            Some(magic) => {
                let magic = u32::from_le_bytes(*magic);
                magic == 0xFD2F_B528 || magic & 0xFFFF_FFF0 == 0x184D_2A50
            }
            None => false,
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            _ if zstd(start) => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(UnpackError::Packing("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(UnpackError::Packing("xz")),
            _ => Ok(Self::Plain),
        }
    }
}

/// What a packed stream holds, and how it is packed.
pub(crate) fn open<'a>(
    mut packed: impl Read + Send + 'a,
) -> Result<(Packing, Box<dyn Read + Send + 'a>), UnpackError> {
    let mut start = Vec::new();
    let seen = (&mut packed).take(Packing::SEEN).read_to_end(&mut start);
    seen.map_err(UnpackError::Archive)?;
    let packing = Packing::of(&start)?;
    let all = BufReader::with_capacity(PIECE, Cursor::new(start).chain(packed));
    let unpacked: Box<dyn Read + Send + 'a> = match packing {
        Packing::Plain => Box::new(all),
        Packing::Gzip => Box::new(MultiGzDecoder::new(all)),
        Packing::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(all).map_err(UnpackError::Archive)?;
            decoder.window_log_max(WINDOW_LOG).map_err(UnpackError::Archive)?;
            Box::new(decoder)
        }
    };
    Ok((packing, unpacked))
}

/// How a file is packed, which is where it was afterwards; none if in a way that can't be unpacked.
pub(crate) fn packing(file: &File) -> io::Result<Option<Packing>> {
    let mut start = [0; Packing::SEEN as usize];
    let mut seen = 0;
    while seen < start.len() {
        match file.read_at(&mut start[seen..], seen as u64)? {
            0 => break,
            count => seen += count,
        }
    }
    Ok(Packing::of(&start[..seen]).ok())
}

/// Has `read` read what `packed` holds, unpacked by another thread, all of which is read to its end.
/// Says the digest of that too. No more than `most` bytes are unpacked.
pub(crate) fn read_unpacked<T>(
    packed: impl Read + Send,
    most: &mut u64,
    read: impl FnOnce(&mut Pieces) -> Result<T, UnpackError>,
) -> Result<(T, Digest), UnpackError> {
    let (_, unpacked) = open(packed)?;
    let (send, pieces) = sync_channel(WAITING);
    let (give_back, spare) = channel();
    let mut pieces =
        Pieces { pieces, give_back, piece: Vec::new(), at: 0, left: *most, too_much: false };
    thread::scope(|scope| {
        let unpacking = scope.spawn(move || unpack(unpacked, &send, &spare));
        let done = read(&mut pieces);
        // What follows the archive's end counts for its digest.
        let done = done.and_then(|done| {
            io::copy(&mut pieces, &mut io::sink()).map_err(UnpackError::Archive)?;
            Ok(done)
        });
        let too_much = pieces.too_much;
        *most = pieces.left;
        // Whoever unpacks for nobody stops.
        drop(pieces);
        let digest = unpacking.join().unwrap_or_default();
        match done {
            Err(UnpackError::Archive(_)) if too_much => Err(UnpackError::TooManyBytes),
            Err(error) => Err(error),
            Ok(done) => {
                let ended = || UnpackError::Archive(io::ErrorKind::BrokenPipe.into());
                digest.map(|digest| (done, digest)).ok_or_else(ended)
            }
        }
    })
}

type Piece = io::Result<Vec<u8>>;

/// Unpacks in pieces; the digest of all, none if that failed or nobody reads it any more.
fn unpack(
    mut unpacked: impl Read,
    send: &SyncSender<Piece>,
    spare: &Receiver<Vec<u8>>,
) -> Option<Digest> {
    let mut hasher = Hasher::default();
    loop {
        let mut piece = spare.try_recv().unwrap_or_default();
        piece.clear();
        piece.reserve(PIECE);
        match (&mut unpacked).take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => return Some(hasher.finish()),
            Ok(_) => {
                hasher.update(&piece);
                send.send(Ok(piece)).ok()?;
            }
            Err(error) => {
                // Whoever reads may have gone.
                let _ = send.send(Err(error));
                return None;
            }
        }
    }
}

/// What is unpacked, in order.
pub(crate) struct Pieces {
    pieces: Receiver<Piece>,
    give_back: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    left: u64,
    too_much: bool,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len()
            && let Ok(piece) = self.pieces.recv()
        {
            let used = mem::replace(&mut self.piece, piece?);
            self.at = 0;
            // Nobody needs it at the end.
            let _ = self.give_back.send(used);
            let left = self.left.checked_sub(self.piece.len() as u64);
            self.too_much |= left.is_none();
            self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
