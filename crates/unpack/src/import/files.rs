//! The files of an image, in a folder or in an archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::ImportError;
use super::made::again_at;
use crate::archive::Archive;
use crate::manifest::LONGEST;

/// How many files an archive of images may have. What has more is a root file system.
const MOST_FILES: usize = 100_000;

/// How many links may lead from one file to another.
const MOST_LINKS: usize = 8;

/// Files that can be opened from several threads at once.
pub(super) trait Files: Sync {
    /// A file that stands at the start of what was asked for, and how long that is, in bytes.
    fn open(&self, name: &str) -> io::Result<(File, u64)>;

    /// A small one, as a whole.
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (file, size) = self.open(name)?;
        if size > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 4 MiB"));
        }
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

pub(super) struct Folder(pub PathBuf);

impl Files for Folder {
    fn open(&self, name: &str) -> io::Result<(File, u64)> {
        let file = File::open(self.0.join(name))?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }
}

/// An archive that isn't packed itself.
pub(super) struct Packed {
    file: File,
    members: BTreeMap<String, Found>,
}

enum Found {
    At(u64, u64),
    Link(String),
}

impl Packed {
    /// Finds what is in an archive.
    pub fn open(file: File, path: &Path) -> Result<Self, ImportError> {
        match members(&file) {
            Ok(members) => Ok(Self { file, members }),
            Err(error) => Err(ImportError::wrong(path, format!("it is no archive: {error}"))),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub fn into_file(self) -> File {
        self.file
    }

    /// Where a file is in it, and how long.
    pub fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = clean(name);
        for _ in 0..MOST_LINKS {
            match self.members.get(&name)? {
                Found::At(at, size) => return Some((*at, *size)),
                Found::Link(target) => name = target.clone(),
            }
        }
        None
    }
}

impl Files for Packed {
    fn open(&self, name: &str) -> io::Result<(File, u64)> {
        let (at, size) = self.find(name).ok_or(io::ErrorKind::NotFound)?;
        Ok((again_at(&self.file, at)?, size))
    }
}

fn members(file: &File) -> io::Result<BTreeMap<String, Found>> {
    let mut input = BufReader::new(file);
    input.rewind()?;
    let end = file.metadata()?.len();
    let mut archive = Archive::new(input);
    let mut members = BTreeMap::new();
    while let Some(member) = archive.next()? {
        let (at, size) = archive.pass_over()?;
        if at.checked_add(size).is_none_or(|after| after > end) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let name = String::from_utf8_lossy(&member.path).into_owned();
        let target = String::from_utf8_lossy(&member.target).into_owned();
        let found = match member.header.entry_type() {
            EntryType::Symlink => Found::Link(beside(&name, &target)),
            EntryType::Link => Found::Link(clean(&target)),
            _ => Found::At(at, size),
        };
        members.insert(clean(&name), found);
        if members.len() > MOST_FILES {
            members.clear();
            return Ok(members);
        }
    }
    Ok(members)
}

/// What a link's text means beside it.
fn beside(name: &str, target: &str) -> String {
    match name.rsplit_once('/') {
        Some((parent, _)) if !target.starts_with('/') => clean(&format!("{parent}/{target}")),
        _ => clean(target),
    }
}

fn clean(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
