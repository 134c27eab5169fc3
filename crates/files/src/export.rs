//! What a sandbox changed, as a layer of an OCI image.

mod entry;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::diff::LISTED_MAX;
use crate::directory::{attribute, attributes};
use crate::error::{FilesError, While};
use crate::facts::{Facts, FileKind};
use crate::layer::Layer;
use crate::walk::{Entered, Next, Spot, Visitor};
use entry::{Archive, Head, Records};

/// By this name before it a layer says that a name is deleted.
const DELETED: &str = ".wh.";
/// By this name a layer says that nothing of a directory below shows.
const OPAQUE: &str = ".wh..wh..opq";
/// Whom the files of nobody else belong to: the kernel's overflow number.
const NOBODY: u32 = 65534;

/// A range of user or group numbers, and what it is in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The first number on the host.
    pub outside: u32,
    /// The first number in the sandbox.
    pub inside: u32,
    pub count: u32,
}

impl Ids {
    fn inside(&self, outside: u32) -> u32 {
        match outside.checked_sub(self.outside) {
            Some(offset) if offset < self.count => self.inside.saturating_add(offset),
            _ => NOBODY,
        }
    }
}

/// How the owners of a sandbox's files are called inside. Whoever is in neither range is 65534.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    pub users: Ids,
    pub groups: Ids,
}

/// Something that a layer can't hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Absolute, in the sandbox.
    pub path: PathBuf,
    /// A socket or a device; or else a name that would mean that another one is deleted.
    pub what: FileKind,
}

/// Writes all that was written in the layers as a tar, an OCI image's layer: paths relative to the
/// root, deletions as `.wh.NAME`, directories that hide what was in them with a `.wh..wh..opq`.
///
/// Files that were copied up are in it even if they are the same as before. Hard links, holes, modes
/// with setuid bits and times are kept; of the extended attributes those of `user.`, less the overlay's
/// own. What a layer can't hold is returned. After an error what was written is of no use.
pub fn export(
    layers: &[Layer],
    owners: Owners,
    out: impl Write,
) -> Result<Vec<LeftOut>, FilesError> {
    let mut archive = Archive::new(out);
    let mut left_out = Vec::new();
    for layer in layers {
        let mut exporter = Exporter {
            layer,
            owners,
            archive: &mut archive,
            left_out: &mut left_out,
            links: Links::default(),
            listed: 0,
        };
        // What lies under it is of no interest.
        let layer = Layer { lower: None, ..layer.clone() };
        layer.walk(layers, &mut exporter)?;
    }
    archive.finish().map_err(FilesError::Output)?;
    Ok(left_out)
}

struct Exporter<'a, W: Write> {
    layer: &'a Layer,
    owners: Owners,
    archive: &'a mut Archive<W>,
    left_out: &'a mut Vec<LeftOut>,
    links: Links,
    /// Bytes of paths in `left_out`.
    listed: usize,
}

impl<W: Write> Visitor for Exporter<'_, W> {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError> {
        let Some(here) = spot.here else { return Ok(Next::Skip) };
        if here.whiteout {
            let mut name = OsString::from(DELETED);
            name.push(spot.name);
            self.write_mark(spot.path.with_file_name(name))?;
        } else if spot.name.as_bytes().starts_with(DELETED.as_bytes()) {
            self.leave_out(spot, here.kind)?;
            return Ok(Next::Skip);
        } else {
            match self.write_entry(spot, &here) {
                // The sandbox removed it meanwhile.
                Err(FilesError::Step { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    return Ok(Next::Skip);
                }
                written => written?,
            }
        }
        Ok(Next::Enter)
    }

    fn enter(&mut self, entered: &Entered<'_>) -> Result<(), FilesError> {
        match entered.opaque {
            true => self.write_mark(entered.path.join(OPAQUE)),
            false => Ok(()),
        }
    }
}

impl<W: Write> Exporter<'_, W> {
    fn write_entry(&mut self, spot: &Spot<'_>, here: &Facts) -> Result<(), FilesError> {
        let mut head = self.head(spot.path, here);
        if matches!(here.kind, FileKind::Socket | FileKind::Device) {
            return self.leave_out(spot, here.kind);
        }
        if let Some(first) = self.links.first(here) {
            return self.archive.hard_link(head, first).map_err(FilesError::Output);
        }
        let name = head.path.clone();
        let written = match here.kind {
            FileKind::Directory => {
                let directory = spot.upper.open(spot.name).doing("open", spot.path)?;
                head.records = users_attributes(&directory, spot.path)?;
                self.archive.directory(head)
            }
            FileKind::File => {
                let (file, facts) = spot.upper.file(spot.name).doing("open", spot.path)?;
                head.records = users_attributes(&file, spot.path)?;
                self.archive.file(head, &file, &facts)
            }
            FileKind::Link => {
                let to = spot.upper.target(spot.name).doing("read", spot.path)?;
                self.archive.link(head, &to)
            }
            FileKind::Fifo | FileKind::Socket | FileKind::Device => self.archive.fifo(head),
        };
        self.links.note(here, name);
        written.map_err(FilesError::Output)
    }

    /// Writes an empty file that only its name gives a meaning.
    fn write_mark(&mut self, path: PathBuf) -> Result<(), FilesError> {
        self.archive.mark(in_archive(&path)).map_err(FilesError::Output)
    }

    fn leave_out(&mut self, spot: &Spot<'_>, what: FileKind) -> Result<(), FilesError> {
        self.listed += spot.path.as_os_str().len();
        if self.listed > LISTED_MAX {
            return Err(FilesError::TooMuch(self.layer.target.clone()));
        }
        self.left_out.push(LeftOut { path: spot.path.to_owned(), what });
        Ok(())
    }

    fn head(&self, path: &Path, facts: &Facts) -> Head {
        Head {
            path: in_archive(path),
            mode: facts.mode,
            uid: self.owners.users.inside(facts.uid),
            gid: self.owners.groups.inside(facts.gid),
            modified: facts.modified,
            records: Vec::new(),
        }
    }
}

/// Files with several names, by the first that was written.
#[derive(Default)]
struct Links {
    first: HashMap<(u64, u64), OsString>,
    /// Bytes of names in `first`. When there are too many, further files are written once per name.
    noted: usize,
}

impl Links {
    fn first(&self, facts: &Facts) -> Option<&OsStr> {
        self.first.get(&(facts.dev, facts.ino)).map(OsString::as_os_str)
    }

    fn note(&mut self, facts: &Facts, name: OsString) {
        if facts.links > 1 && !facts.is_dir() && self.noted < LISTED_MAX {
            self.noted += name.len();
            self.first.insert((facts.dev, facts.ino), name);
        }
    }
}

/// An absolute path as it is called in the archive.
fn in_archive(path: &Path) -> OsString {
    path.strip_prefix("/").unwrap_or(path).as_os_str().to_owned()
}

/// The attributes that mean something elsewhere, as records of the archive.
fn users_attributes(file: impl AsFd, path: &Path) -> Result<Records, FilesError> {
    let mut found = Vec::new();
    for name in attributes(&file).doing("look at", path)? {
        // In an archive a name is text, and ends at the first "=".
        let Some(text) = name.to_str().filter(|text| !text.contains('=')) else { continue };
        if !text.starts_with("user.") || text.starts_with("user.overlay.") {
            continue;
        }
        if let Some(value) = attribute(&file, &name).doing("look at", path)? {
            found.push((format!("SCHILY.xattr.{text}"), value));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_outside_of_the_range_are_nobody() {
        let ids = Ids { outside: 1000, inside: 5, count: 2 };
        assert_eq!([999, 1000, 1001, 1002].map(|id| ids.inside(id)), [NOBODY, 5, 6, NOBODY]);
        let all = Ids { outside: 0, inside: 0, count: u32::MAX };
        assert_eq!(all.inside(u32::MAX), NOBODY);
    }
}
