//! What a member of an archive is to become.

use std::ffi::CString;

use rustix::fs::Timespec;
use tar::EntryType;

use crate::archive::{self, Extent, number};
use crate::entries::{Bytes, Entry, Kind};

/// How long a name and a path may be, in bytes, as the kernel has it.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;

/// How deep something may lie, so that a tree can be removed with a descriptor at each level.
const DEEPEST: usize = 256;

/// What names of whiteouts begin with, and those of what is none but means something.
const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Something that an archive has.
#[derive(Debug)]
pub(super) struct Member {
    pub name: Name,
    pub kind: Kind,
    pub attributes: Attributes,
    pub target: Vec<u8>,
    pub size: u64,
    pub extents: Option<Vec<Extent>>,
    device: Option<(u32, u32)>,
}

/// What a path means. The parents are relative to the root, which is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Root,
    Plain {
        parent: Vec<u8>,
        name: Vec<u8>,
    },
    /// Whatever has this name in the layers below is not there.
    Whiteout {
        parent: Vec<u8>,
        name: Vec<u8>,
    },
    /// Nothing in the parent is there in the layers below.
    Opaque {
        parent: Vec<u8>,
    },
    /// The old file system aufs's own.
    Ignored,
}

/// What something has besides its name and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    pub extended: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    /// Those of a directory that nobody says anything of.
    pub fn implied() -> Self {
        let mtime = Timespec { tv_sec: 0, tv_nsec: 0 };
        Self { mode: 0o755, uid: 0, gid: 0, mtime, extended: Vec::new() }
    }

    fn of(raw: &archive::Member) -> Result<Self, &'static str> {
        const NO_ID: &str = "belongs to a number that is none of a user's or group's";
        let id = |name, header: std::io::Result<u64>| {
            let given = raw.pax.number(name).map_err(|_| NO_ID)?;
            let id = given.map_or(header, Ok).map_err(|_| NO_ID)?;
            // The last one means nobody to the kernel.
            u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(NO_ID)
        };
        let named = |(name, value): (&[u8], &[u8])| {
            let name = CString::new(name).map_err(|_| "has a NUL byte in an attribute's name")?;
            Ok((name, value.to_vec()))
        };
        let fields = raw.header.as_old();
        let mode = number(&fields.mode, raw.header.mode().map(u64::from));
        let mode = mode.map_err(|_| "has a mode that is no number")?;
        Ok(Self {
            mode: mode as u32 & 0o7777,
            uid: id("uid", number(&fields.uid, raw.header.uid()))?,
            gid: id("gid", number(&fields.gid, raw.header.gid()))?,
            mtime: mtime(raw).ok_or("was changed at a time that is no number")?,
            extended: raw.pax.attributes().map(named).collect::<Result<_, _>>()?,
        })
    }

    /// The line that lists it.
    pub fn entry(&self, path: &[u8], kind: Kind) -> Entry {
        let nanoseconds = u32::try_from(self.mtime.tv_nsec).unwrap_or_default();
        let named = |(name, value): &(CString, Vec<u8>)| {
            (Bytes(name.to_bytes().to_vec()), Bytes(value.clone()))
        };
        Entry {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: (self.mtime.tv_sec, nanoseconds),
            attributes: self.extended.iter().map(named).collect(),
            ..Entry::new(path, kind)
        }
    }
}

impl Member {
    pub fn new(raw: archive::Member) -> Result<Self, &'static str> {
        let kind = match raw.header.entry_type() {
            // Archives from before there was a kind for it did so.
            EntryType::Regular if raw.path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Link => Kind::Link,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => Kind::Character,
            EntryType::Block => Kind::Block,
            _ => return Err("is of a kind that nobody knows"),
        };
        let attributes = Attributes::of(&raw)?;
        let is_device = matches!(kind, Kind::Character | Kind::Block);
        Ok(Self {
            name: name(&raw.path)?,
            kind,
            attributes,
            device: is_device.then(|| device(&raw)).transpose()?,
            target: raw.target,
            size: raw.size,
            extents: raw.extents,
        })
    }

    /// What it is a hard link to: a parent, and a name in it.
    pub fn link_target(&self) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let path = clean(&self.target).map_err(|_| "is a hard link to what leads out")?;
        split(path).ok_or("is a hard link to a directory")
    }

    /// How much of a file is holes, in bytes.
    pub fn holes(&self) -> u64 {
        match &self.extents {
            None => 0,
            Some(extents) => self.size - extents.iter().map(|extent| extent.length).sum::<u64>(),
        }
    }

    /// The line that lists it, at the place where it is.
    pub fn entry(&self, path: &[u8]) -> Entry {
        let size = if self.kind == Kind::File { self.size } else { 0 };
        Entry { size, device: self.device, ..self.attributes.entry(path, self.kind) }
    }
}

fn name(raw: &[u8]) -> Result<Name, &'static str> {
    const NOT_A_NAME: &str = "is a whiteout of what has no name";
    if raw.is_empty() {
        return Err("has no name");
    }
    let Some((parent, name)) = split(clean(raw)?) else { return Ok(Name::Root) };
    let mut above = parent.split(|byte| *byte == b'/');
    if name.starts_with(META) || above.clone().any(|part| part.starts_with(META)) {
        let is_opaque = name == OPAQUE && !above.any(|part| part.starts_with(META));
        return Ok(if is_opaque { Name::Opaque { parent } } else { Name::Ignored });
    }
    if above.any(|part| part.starts_with(WHITEOUT)) {
        return Err("lies below a whiteout");
    }
    match name.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => Err(NOT_A_NAME),
        Some(name) => Ok(Name::Whiteout { parent, name: name.to_vec() }),
        None => Ok(Name::Plain { parent, name }),
    }
}

/// A path within the root, which is empty, without `.`, `..` and slashes that mean nothing.
fn clean(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or("has a path that leads out")?;
            }
            part if part.contains(&0) => return Err("has a NUL byte in its path"),
            part if part.len() > LONGEST_NAME => return Err("has a name of more than 255 bytes"),
            part => parts.push(part),
        }
    }
    let path = parts.join(&b'/');
    check_length(&path).map(|()| path)
}

/// Refuses what is too long or too deep, perhaps because links led there.
pub(super) fn check_length(path: &[u8]) -> Result<(), &'static str> {
    if path.len() > LONGEST_PATH {
        return Err("has a path of more than 4095 bytes");
    }
    match path.iter().filter(|byte| **byte == b'/').count() {
        ..DEEPEST => Ok(()),
        _ => Err("lies in more than 255 directories"),
    }
}

/// The parent and the name of what isn't the root.
fn split(path: Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => Some((path[..at].to_vec(), path[at + 1..].to_vec())),
        None if path.is_empty() => None,
        None => Some((Vec::new(), path)),
    }
}

fn device(raw: &archive::Member) -> Result<(u32, u32), &'static str> {
    let number = |number: std::io::Result<Option<u32>>| {
        number.map(Option::unwrap_or_default).map_err(|_| "is a device whose number is none")
    };
    Ok((number(raw.header.device_major())?, number(raw.header.device_minor())?))
}

fn mtime(raw: &archive::Member) -> Option<Timespec> {
    match raw.pax.text("mtime") {
        Some(text) => parse_time(std::str::from_utf8(&text).ok()?),
        None => {
            // Numbers below zero are kept as their complement.
            let seconds = number(&raw.header.as_old().mtime, raw.header.mtime()).ok()?;
            let seconds = seconds.cast_signed();
            Some(Timespec { tv_sec: seconds, tv_nsec: 0 })
        }
    }
}

/// Seconds since 1970, perhaps with a fraction, perhaps before.
fn parse_time(text: &str) -> Option<Timespec> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (sign, digits) = whole.strip_prefix('-').map_or((1, whole), |digits| (-1, digits));
    if !is_digits(digits) || !is_digits(fraction) {
        return None;
    }
    let seconds = if digits.is_empty() { 0 } else { digits.parse::<i64>().ok()? * sign };
    let nanoseconds: i64 = format!("{fraction:0<9}")[..9].parse().ok()?;
    // What the kernel takes counts up from a second.
    Some(match (sign, nanoseconds) {
        (-1, 1..) => {
            Timespec { tv_sec: seconds.checked_sub(1)?, tv_nsec: 1_000_000_000 - nanoseconds }
        }
        _ => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_and_stays_within_the_root() {
        let path = |text: &str| clean(text.as_bytes()).map(|path| String::from_utf8(path).unwrap());
        for (given, cleaned) in [
            ("./", ""),
            ("/", ""),
            ("a", "a"),
            ("/a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("a/../b", "b"),
            ("a/..", ""),
            ("...", "..."),
        ] {
            assert_eq!(path(given).as_deref(), Ok(cleaned), "{given}");
        }
        for wrong in
            ["..", "../a", "/..", "a/../../b", "a\0b", &"n".repeat(256), &"a/".repeat(2049)]
        {
            assert!(path(wrong).is_err(), "{wrong}");
        }
        assert!(path(&"n".repeat(255)).is_ok());
    }

    #[test]
    fn names_of_whiteouts_mean_something_and_never_a_parent() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let whiteout =
            |parent: &str, name: &str| Name::Whiteout { parent: bytes(parent), name: bytes(name) };
        assert_eq!(name(b"a/.wh.b"), Ok(whiteout("a", "b")));
        assert_eq!(name(b".wh..hidden"), Ok(whiteout("", ".hidden")));
        assert_eq!(name(b"a/.wh..wh..opq"), Ok(Name::Opaque { parent: bytes("a") }));
        assert_eq!(name(b".wh..wh.plnk/1.2"), Ok(Name::Ignored));
        assert_eq!(name(b".wh..wh.aufs"), Ok(Name::Ignored));
        for wrong in ["", ".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"] {
            assert!(name(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        let time = |text| parse_time(text).map(|time| (time.tv_sec, time.tv_nsec));
        assert_eq!(time("12"), Some((12, 0)));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("12.0000000019"), Some((12, 1)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-0.5"), Some((-1, 500_000_000)));
        for wrong in ["x", "1.x", "--1", "1e3", "99999999999999999999"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
