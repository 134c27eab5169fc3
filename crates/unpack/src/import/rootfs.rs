//! A folder becomes an archive of a root file system: the same each time, if the folder is.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, open, openat, readlinkat,
    statat,
};
use tar::{Builder, EntryType, Header};

use super::ImportError;
use super::spool::Spool;
use crate::tree::names;

/// What is read and written at a time, in bytes.
const BUFFER: usize = 128 << 10;

/// The most that an extended attribute, or the names of all, can take, in bytes.
const LONGEST_ATTRIBUTE: usize = 64 << 10;

/// How long a path or a link may be that goes into a header itself, in bytes.
const LONGEST_IN_HEADER: usize = 100;

/// How deep a folder may be, with a descriptor at each level.
const DEEPEST: usize = 256;

/// Writes what is in a folder. What is mounted in it is left out, as are sockets.
pub(super) fn write(folder: &Path, spool: &mut Spool) -> Result<(), ImportError> {
    let failed = || ImportError::io("can't read", folder);
    let top = open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed()(errno.into()))?;
    let stat = fstat(&top).map_err(|errno| failed()(errno.into()))?;
    let mut writing = Writing {
        archive: Builder::new(BufWriter::with_capacity(BUFFER, spool)),
        device: stat.st_dev,
        own: own(),
        names: HashMap::new(),
    };
    writing
        .directory(&top, &stat, Path::new(""))
        .map_err(|(path, error)| ImportError::io("can't import", &folder.join(path))(error))?;
    let ended =
        writing.archive.into_inner().and_then(|output| Ok(output.into_inner().map(drop)?));
    ended.map_err(failed())
}

/// The ordinary user who calls, whose files are root's in the image.
fn own() -> Option<(u32, u32)> {
    let uid = rustix::process::geteuid();
    (!uid.is_root()).then(|| (uid.as_raw(), rustix::process::getegid().as_raw()))
}

struct Writing<'a> {
    archive: Builder<BufWriter<&'a mut Spool>>,
    /// Of the folder: what is on another one is mounted there.
    device: u64,
    own: Option<(u32, u32)>,
    /// Those of files that have more, by what they are.
    names: HashMap<(u64, u64), PathBuf>,
}

type Failed = (PathBuf, io::Error);

impl Writing<'_> {
    fn directory(&mut self, directory: &OwnedFd, stat: &Stat, path: &Path) -> Result<(), Failed> {
        let failed = |error: io::Error| (path.to_owned(), error);
        if path.components().count() > DEEPEST {
            return Err(failed(io::Error::other("it is too deep")));
        }
        let attributes = attributes(directory).map_err(failed)?;
        let mut named = PathBuf::from(".").join(path);
        named.push("");
        self.member(EntryType::Directory, stat, &named, None, &attributes, io::empty())
            .map_err(failed)?;
        if stat.st_dev != self.device {
            return Ok(());
        }
        let mut names = names(directory).map_err(failed)?;
        names.sort();
        for name in names {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            self.entry(directory, &name, &path)?;
        }
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, name: &CStr, path: &Path) -> Result<(), Failed> {
        let failed = |error: io::Error| (path.to_owned(), error);
        let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = found.map_err(|errno| failed(errno.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(directory, name, flags, Mode::empty());
            return self.directory(&opened.map_err(|errno| failed(errno.into()))?, &stat, path);
        }
        self.other(directory, name, path, kind, &stat).map_err(failed)
    }

    fn other(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        path: &Path,
        kind: FileType,
        stat: &Stat,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.names.get(&file).cloned() {
                let target = first.as_os_str().as_bytes();
                return self.member(EntryType::Link, stat, path, Some(target), &[], io::empty());
            }
            self.names.insert(file, path.into());
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(openat(directory, name, flags, Mode::empty())?);
                // It may be longer by now than it was, or another one.
                let stat = fstat(&file)?;
                let attributes = attributes(&file)?;
                let content = BufReader::with_capacity(BUFFER, file);
                self.member(EntryType::Regular, &stat, path, None, &attributes, content)
            }
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new())?;
                let target = Some(target.to_bytes());
                self.member(EntryType::Symlink, stat, path, target, &[], io::empty())
            }
            FileType::Fifo => self.member(EntryType::Fifo, stat, path, None, &[], io::empty()),
            FileType::CharacterDevice => {
                self.member(EntryType::Char, stat, path, None, &[], io::empty())
            }
            FileType::BlockDevice => {
                self.member(EntryType::Block, stat, path, None, &[], io::empty())
            }
            // Nobody is behind a socket.
            _ => Ok(()),
        }
    }

    fn member(
        &mut self,
        kind: EntryType,
        stat: &Stat,
        path: &Path,
        target: Option<&[u8]>,
        attributes: &[(String, Vec<u8>)],
        content: impl Read,
    ) -> io::Result<()> {
        let size = if kind == EntryType::Regular { stat.st_size.cast_unsigned() } else { 0 };
        let path = path.as_os_str().as_bytes();
        let mtime = format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        if stat.st_mtime_nsec != 0 && stat.st_mtime >= 0 {
            records.push(("mtime", mtime.as_bytes()));
        }
        let long = [("path", Some(path)), ("linkpath", target)];
        let long = long.into_iter().filter_map(|(name, text)| Some((name, text?)));
        records.extend(long.filter(|(_, text)| text.len() > LONGEST_IN_HEADER));
        records.extend(attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        if !records.is_empty() {
            self.archive.append_pax_extensions(records)?;
        }
        let mut header = self.header(kind, stat, size)?;
        let old = header.as_old_mut();
        put(&mut old.name, path);
        put(&mut old.linkname, target.unwrap_or_default());
        header.set_cksum();
        // If the file became shorter the archive would not be one.
        let mut content = content.take(size);
        self.archive.append(&header, &mut content)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(io::Error::other("it became shorter while it was read")),
        }
    }

    fn header(&self, kind: EntryType, stat: &Stat, size: u64) -> io::Result<Header> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        let own = |id, own: Option<u32>| if own == Some(id) { 0 } else { u64::from(id) };
        header.set_uid(own(stat.st_uid, self.own.map(|(uid, _)| uid)));
        header.set_gid(own(stat.st_gid, self.own.map(|(_, gid)| gid)));
        header.set_mtime(stat.st_mtime.cast_unsigned());
        header.set_size(size);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(rustix::fs::major(stat.st_rdev))?;
            header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
        }
        Ok(header)
    }
}

/// Puts as much of a text into a field as fits.
fn put(field: &mut [u8], text: &[u8]) {
    let count = text.len().min(field.len());
    field.fill(0);
    field[..count].copy_from_slice(&text[..count]);
}

/// The attributes that an image may have, under the names of their records.
fn attributes(file: impl AsFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; LONGEST_ATTRIBUTE];
    // Where there are none the file system need not know them.
    let length = flistxattr(&file, &mut list).unwrap_or_default();
    let mut attributes = Vec::new();
    for name in list[..length].split(|byte| *byte == 0) {
        if !name.starts_with(b"user.") && name != b"security.capability" {
            continue;
        }
        // What is no text can't be written.
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let mut value = vec![0; LONGEST_ATTRIBUTE];
        let length = fgetxattr(&file, text, &mut value)?;
        value.truncate(length);
        attributes.push((format!("SCHILY.xattr.{text}"), value));
    }
    attributes.sort();
    Ok(attributes)
}
