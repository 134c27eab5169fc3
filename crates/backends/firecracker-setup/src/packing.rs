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
const UNKNOWN: [(&[u8], &str); 4] =
    [(b"BZh", "bzip2"), (b"\x5d\0\0", "lzma"), (b"\x02\x21\x4c\x18", "lz4"), (b"\x89LZO", "lzo")];

/// What a packed stream has, or the stream itself if it isn't packed. It ends where what was packed
/// does, whatever follows.
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
        _ => Box::new(all),
    })
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
        let error = unpack(b"\x02\x21\x4c\x18....").unwrap_err();
        assert!(error.to_string().contains("lz4"), "{error}");
    }

    #[test]
    fn a_copy_is_bounded() {
        let mut out = Vec::new();
        assert_eq!(copy(&mut &b"abc"[..], &mut out, 3, |_| {}).unwrap(), 3);
        assert!(matches!(copy(&mut &b"abcd"[..], &mut out, 3, |_| {}), Err(CopyError::Read(_))));
    }
}
