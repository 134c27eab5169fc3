//! The list of what is in a layer, which says what its tree can't hold: an ordinary user's files have
//! no owners, no capabilities and no devices.
//!
//! A line of JSON for each thing, in the order of the archive: whatever comes later at the same path
//! takes the place of what came before, and what is no directory takes the place of all beneath it.
//! A path is relative to the root, which is empty. In all texts a `%` and two hexadecimal digits
//! stand for a byte that is no printable ASCII, and for `%` itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Something in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub path: Bytes,
    pub kind: Kind,
    /// The archive only has things in it. If a directory is there in the layers below, then owner,
    /// mode, time and attributes are that one's; else those that stand here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub implied: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub gid: u32,
    /// Seconds since 1970, and nanoseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mtime: (i64, u32),
    /// Of a file, in bytes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub size: u64,
    /// Of a hard link: the path of the file whose other name it is at this point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Bytes>,
    /// Major and minor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// All that the archive has, also those that are never set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(Bytes, Bytes)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Directory,
    /// Another name of a file, which has all its properties.
    Link,
    Symlink,
    Fifo,
    Character,
    Block,
    /// What is there in the layers below is hidden. It does not take the place of what is in the same
    /// layer; if that is a directory, it hides all beneath it in those below.
    Whiteout,
    /// All in this directory in the layers below is hidden. The directory has a line of its own.
    Opaque,
}

impl Entry {
    /// One of which no more is known.
    pub(crate) fn new(path: &[u8], kind: Kind) -> Self {
        Self {
            path: Bytes(path.to_vec()),
            kind,
            implied: false,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            target: None,
            device: None,
            attributes: Vec::new(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A text that need not be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        let mut text = String::with_capacity(bytes.0.len());
        for byte in bytes.0 {
            match byte {
                b'%' | ..=0x1f | 0x7f.. => text.push_str(&format!("%{byte:02x}")),
                byte => text.push(char::from(byte)),
            }
        }
        text
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} has a % without two digits");
        let mut rest = text.as_bytes();
        let mut bytes = Vec::with_capacity(rest.len());
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte != b'%' {
                bytes.push(*byte);
                continue;
            }
            let (digits, after) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
            rest = after;
        }
        Ok(Self(bytes))
    }
}

/// Reads the list of a layer, line by line.
pub fn read_entries(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Entry>> + use<>> {
    let lines = BufReader::new(File::open(path)?).split(b'\n');
    Ok(lines.map(|line| Ok(serde_json::from_slice(&line?)?)))
}

/// A list in the making.
pub(crate) struct Writer(BufWriter<File>);

impl Writer {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(File::create_new(path)?)))
    }

    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, entry)?;
        self.0.write_all(b"\n")
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}
