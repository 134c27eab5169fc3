//! Files that are packed, by what they begin with.

use std::io::{self, BufReader, Cursor, Read, Write};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

/// The most memory that unpacking may look back on: 128 MiB, as kernels are packed with.
const WINDOW_LOG: u32 = 27;
const XZ_KIB: u32 = (1 << (WINDOW_LOG - 10)) + 1024;

/// How much is looked at.
const SEEN: u64 = 6;

/// What others use, and nobody unpacks here.
const UNKNOWN: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (b"\x5d\0\0", "lzma"), (b"\x89LZO", "lzo")];

/// What a packed stream has, or the stream itself if it isn't packed. It ends where what was packed
/// does, whatever follows, but for lz4, whose old form has no end of its own.
pub fn open<'a>(mut packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    (&mut packed).take(SEEN).read_to_end(&mut start)?;
    if let Some((_, name)) = UNKNOWN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(io::Error::other(format!("it is packed with {name}, which is not known here")));
    }
    let all = BufReader::new(Cursor::new(start.clone()).chain(packed));
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(GzDecoder::new(all)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(all)?.single_frame();
            decoder.window_log_max(WINDOW_LOG)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(XzReader::new_mem_limit(all, false, XZ_KIB)),
        [0x02, 0x21, 0x4c, 0x18, ..] => Box::new(Lz4::new(all)?),
        _ => Box::new(all),
    })
}

/// What is packed as kernels are with lz4, in its old form: a word, then blocks with their sizes before
/// them, to the end.
struct Lz4<R> {
    packed: R,
    piece: Cursor<Vec<u8>>,
}

/// What a block has at most, unpacked.
const LZ4_BLOCK: usize = 8 << 20;

impl<R: Read> Lz4<R> {
    fn new(mut packed: R) -> io::Result<Self> {
        packed.read_exact(&mut [0; 4])?;
        Ok(Self { packed, piece: Cursor::default() })
    }

    /// Unpacks one more; says whether there is one.
    fn next(&mut self) -> io::Result<bool> {
        let mut size = Vec::new();
        (&mut self.packed).take(4).read_to_end(&mut size)?;
        let size = match *size.as_slice() {
            [] => return Ok(false),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as usize,
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        if size > 2 * LZ4_BLOCK {
            return Err(io::Error::other("a block is too large"));
        }
        let mut block = vec![0; size];
        self.packed.read_exact(&mut block)?;
        let mut piece = vec![0; LZ4_BLOCK];
        let count =
            lz4_flex::block::decompress_into(&block, &mut piece).map_err(io::Error::other)?;
        piece.truncate(count);
        self.piece = Cursor::new(piece);
        Ok(true)
    }
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(buffer)? {
                0 if !buffer.is_empty() && self.next()? => {}
                count => return Ok(count),
            }
        }
    }
}

/// Why something was not copied.
#[derive(Debug)]
pub enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies all of it, which may not be more than `most` bytes, and says how much it was. All that is
/// written is shown to `see`.
pub fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    most: u64,
    mut see: impl FnMut(&[u8]),
) -> Result<u64, CopyError> {
    let mut piece = vec![0; 128 << 10];
    let mut copied = 0;
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        copied += count as u64;
        if copied > most {
            let why = format!("it has more than {} MB", most >> 20);
            return Err(CopyError::Read(io::Error::other(why)));
        }
        see(&piece[..count]);
        to.write_all(&piece[..count]).map_err(CopyError::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        open(packed)?.read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn what_is_packed_is_unpacked_to_its_own_end() {
        let text = b"text ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let options = lzma_rust2::XzOptions::default();
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        xz.write_all(&text).unwrap();
        let zstd = zstd::encode_all(text.as_slice(), 1).unwrap();
        for mut packed in [gzip.finish().unwrap(), xz.finish().unwrap(), zstd, text.clone()] {
            assert_eq!(unpack(&packed).unwrap(), text);
            if packed.len() < text.len() {
                assert!(unpack(&packed[..packed.len() - 5]).is_err(), "{:x?}", &packed[..4]);
                packed.extend(b"tail");
                assert_eq!(unpack(&packed).unwrap(), text, "{:x?}", &packed[..4]);
            }
        }
        let error = unpack(b"BZh9....").unwrap_err();
        assert!(error.to_string().contains("bzip2"), "{error}");
    }

    #[test]
    fn the_old_form_of_lz4_is_unpacked_block_by_block() {
        // A block of bytes as they are: how many, and those.
        let block = |word: &[u8]| {
            let size = word.len() as u8;
            [&[size + 1, 0, 0, 0, size << 4], word].concat()
        };
        let start = b"\x02\x21\x4c\x18";
        let packed = [start.as_slice(), &block(b"one "), &block(b"two")].concat();
        assert_eq!(unpack(&packed).unwrap(), b"one two");
        for length in [packed.len() - 1, packed.len() - 6] {
            assert!(unpack(&packed[..length]).is_err(), "{length}");
        }
        assert!(unpack(&[start.as_slice(), b"\xff\xff\xff\x7f"].concat()).is_err());
    }

    #[test]
    fn a_copy_is_bounded() {
        let mut out = Vec::new();
        assert_eq!(copy(&mut &b"abc"[..], &mut out, 3, |_| {}).unwrap(), 3);
        assert!(matches!(copy(&mut &b"abcd"[..], &mut out, 3, |_| {}), Err(CopyError::Read(_))));
    }
}
