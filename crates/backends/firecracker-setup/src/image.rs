//! A kernel's own file: a `vmlinux`, or a `vmlinuz` that has one packed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::SetupError;
use crate::packing::{self, CopyError};

/// The largest that is taken, unpacked.
const MOST: u64 = 1 << 30;

/// What a file of a kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    Unpacked,
    /// A `bzImage`, with what is packed at this place and of this length.
    Packed {
        start: u64,
        length: u64,
    },
}

impl Image {
    /// By its header, as the kernel's Documentation/arch/x86/boot.rst has it.
    pub fn of(file: &File) -> Result<Self, String> {
        let mut header = [0; 0x250];
        let count = file.read_at(&mut header, 0).map_err(|error| error.to_string())?;
        if header.starts_with(b"\x7fELF") {
            return Ok(Self::Unpacked);
        }
        if count == header.len() && &header[0x202..0x206] == b"HdrS" {
            let word = |at: usize| {
                u64::from(u32::from_le_bytes([
                    header[at],
                    header[at + 1],
                    header[at + 2],
                    header[at + 3],
                ]))
            };
            // Zero stands for four, from old times.
            let sectors = match header[0x1f1] {
                0 => 4,
                sectors => u64::from(sectors),
            };
            let start = (sectors + 1) * 512 + word(0x248);
            return Ok(Self::Packed { start, length: word(0x24c) });
        }
        Err(match &header[0x38..0x3c] {
            b"ARM\x64" => "it is one for an ARM processor, and micro-VMs are x86-64's".into(),
            _ => "it is neither a vmlinux nor a vmlinuz".into(),
        })
    }

    /// The kernel's own word for its version.
    pub fn version(self, file: &File) -> io::Result<Option<String>> {
        match self {
            Self::Packed { .. } => {
                let mut at = [0; 2];
                file.read_exact_at(&mut at, 0x20e)?;
                let mut text = [0; 128];
                let place = 0x200 + u64::from(u16::from_le_bytes(at));
                let count = file.read_at(&mut text, place)?;
                Ok(first_word(&text[..count]))
            }
            Self::Unpacked => search_version(file),
        }
    }

    /// Writes what Firecracker starts, and says how many bytes that are.
    pub fn unpack(self, path: &Path, to: &Path) -> Result<u64, SetupError> {
        let mut file = File::open(path).map_err(SetupError::read(path))?;
        let mut out = File::create_new(to).map_err(SetupError::write(to))?;
        let mut begins = Vec::new();
        let see = |piece: &[u8]| {
            let missing = 20_usize.saturating_sub(begins.len());
            begins.extend_from_slice(&piece[..piece.len().min(missing)]);
        };
        let damaged = |why: &str| SetupError::damaged(path, why);
        let copied = match self {
            Self::Unpacked => {
                file.rewind().map_err(SetupError::read(path))?;
                packing::copy(&mut file, &mut out, MOST, see)
            }
            Self::Packed { start, length } => {
                let whole = file.metadata().map_err(SetupError::read(path))?.len();
                if length < 8 || start.checked_add(length).is_none_or(|end| end > whole) {
                    return Err(damaged("it ends before what is packed in it does"));
                }
                file.seek(SeekFrom::Start(start)).map_err(SetupError::read(path))?;
                let packed = (&file).take(length - size_behind(&file, start));
                let mut packed =
                    packing::open(packed).map_err(|why| SetupError::no_kernel(path, why))?;
                packing::copy(&mut packed, &mut out, MOST, see)
            }
        };
        let size = copied.map_err(|error| match error {
            CopyError::Read(why) => SetupError::damaged(path, why),
            CopyError::Write(source) => SetupError::write(to)(source),
        })?;
        if let Self::Packed { start, length } = self {
            let mut said = [0; 4];
            file.read_exact_at(&mut said, start + length - 4).map_err(SetupError::read(path))?;
            if u64::from(u32::from_le_bytes(said)) != size {
                return Err(damaged("what is packed in it has another size than it says"));
            }
        }
        match begins.as_slice() {
            // 64 bits, low byte first; at 18, the processor's number.
            [0x7f, b'E', b'L', b'F', 2, 1, rest @ ..] if rest.get(12..14) == Some(&[62, 0]) => {
                out.sync_all().map_err(SetupError::write(to))?;
                Ok(size)
            }
            [0x7f, b'E', b'L', b'F', ..] => {
                Err(SetupError::no_kernel(path, "it is one for another processor than x86-64"))
            }
            _ => Err(SetupError::no_kernel(path, "what is packed in it is no vmlinux")),
        }
    }
}

/// How many bytes of what is packed are its size, which the kernel's build puts behind all but gzip's,
/// which has it in itself.
fn size_behind(file: &File, start: u64) -> u64 {
    let mut magic = [0; 2];
    match file.read_exact_at(&mut magic, start) {
        Ok(()) if magic == [0x1f, 0x8b] => 0,
        _ => 4,
    }
}

const BANNER: &[u8] = b"Linux version ";

/// In the words that it says first of all when it starts.
fn search_version(mut file: &File) -> io::Result<Option<String>> {
    file.rewind()?;
    let mut reader = BufReader::new(file.take(MOST));
    let mut piece = Vec::new();
    loop {
        let read = (&mut reader).take(1 << 20).read_to_end(&mut piece)?;
        let starts = piece.iter().enumerate().filter(|(_, byte)| **byte == BANNER[0]);
        let mut texts = starts.filter_map(|(at, _)| piece[at..].strip_prefix(BANNER));
        let found = texts.find(|text| text.len() >= 128 && text[0].is_ascii_digit());
        if let Some(version) = found.and_then(first_word) {
            return Ok(Some(version));
        }
        if read == 0 {
            return Ok(None);
        }
        // It may lie across two pieces.
        let keep = piece.len().saturating_sub(BANNER.len() + 128);
        piece.drain(..keep);
    }
}

/// Up to a space, if that is what a version may be: it is to be part of paths.
fn first_word(text: &[u8]) -> Option<String> {
    let end = text.iter().position(|byte| matches!(byte, b' ' | 0))?;
    let word = std::str::from_utf8(&text[..end]).ok()?;
    is_version(word).then(|| word.to_owned())
}

pub fn is_version(word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-+~_".contains(&byte);
    word.starts_with(|c: char| c.is_ascii_digit()) && word.len() <= 100 && word.bytes().all(is_part)
}
