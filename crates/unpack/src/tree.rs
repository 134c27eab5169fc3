//! A layer's tree, made of its archive in the form of overlayfs with `userxattr`.
//!
//! An archive is hostile: everything is reached by descriptors of directories in the tree, and no
//! link is followed by the kernel. What is decided here:
//!
//! - A path is what is left of it without `.`, `..` and a leading `/`; one that leads out is refused.
//!   A parent that is a link made by the same layer is followed within the root, as Docker,
//!   containerd and umoci do. Links in the layers below are not: a directory takes their place.
//! - What comes later takes the place of what is there, but a directory keeps what is in it.
//! - A hard link is to a file or a link of the same layer, and has that one's properties.
//! - Devices are only listed. What is below in their place is hidden.
//! - For root all is as the archive says, with whatever owners up to 4294967294: whether a sandbox can
//!   map those is found out when it is started. For an ordinary user all files are the caller's own.
//! - Attributes `user.*` are set, by root `security.capability` too. Others are only listed, and those
//!   that overlayfs takes for its own (`user.overlay.*`) above all.
//! - A whiteout is made only where there is something below to hide, for a directory that is not
//!   merged with others shows it.

mod directories;
mod making;
mod member;
mod parents;
mod stacked;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::archive::Archive;
use crate::bounds::Bounds;
use crate::entries::{self, Bytes, Entry, Kind};
use crate::{UnpackError, path_of};
use directories::Directories;
pub(crate) use making::names;
use making::{Making, remove};
use member::{Member, Name};
use parents::{Parents, Place};
pub(crate) use stacked::Stacked;

/// Unpacks an archive into the empty folder `root`, on the trees `below`, the topmost last. Says what
/// the files hold, in bytes.
pub(crate) fn unpack(
    archive: &mut Archive<impl BufRead>,
    root: &Path,
    entries: &Path,
    below: &[PathBuf],
    bounds: &mut Bounds,
) -> Result<u64, UnpackError> {
    let top = open_root(root).map_err(|source| UnpackError::Write { path: root.into(), source })?;
    let mut tree = Tree {
        making: Making::new(),
        below: Stacked::open(below)
            .map_err(|source| UnpackError::Write { path: root.into(), source })?,
        parents: Parents::new(top),
        directories: Directories::default(),
        entries: entries::Writer::create(entries).map_err(UnpackError::Entries)?,
        bytes: 0,
    };
    tree.imply(Vec::new())?;
    while let Some(raw) = archive.next().map_err(UnpackError::Archive)? {
        bounds.count_entry()?;
        let path = raw.path.clone();
        let failed = |failure| match failure {
            Failure::Member(why) => UnpackError::Member { path: path_of(&path), why: why.into() },
            Failure::Write(source) => UnpackError::Write { path: path_of(&path), source },
            Failure::Whole(error) => error,
        };
        let member = Member::new(raw).map_err(|why| failed(Failure::Member(why)))?;
        tree.member(member, archive, bounds).map_err(failed)?;
        if tree.directories.is_too_much() {
            return Err(UnpackError::TooManyDirectories);
        }
    }
    tree.settle()?;
    tree.entries.finish().map_err(UnpackError::Entries)?;
    Ok(tree.bytes)
}

fn open_root(root: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};

    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(root, flags, Mode::empty())?)
}

/// Why a member wasn't unpacked.
#[derive(Debug)]
enum Failure {
    Member(&'static str),
    Write(io::Error),
    Whole(UnpackError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Write(errno.into())
    }
}

/// A name in a directory.
type At<'a> = (BorrowedFd<'a>, &'a CStr);

struct Tree {
    making: Making,
    below: Stacked,
    parents: Parents,
    directories: Directories,
    entries: entries::Writer,
    bytes: u64,
}

impl Tree {
    fn member(
        &mut self,
        member: Member,
        archive: &mut Archive<impl BufRead>,
        bounds: &mut Bounds,
    ) -> Result<(), Failure> {
        let (parent, name) = match &member.name {
            Name::Ignored => return Ok(()),
            Name::Root => return self.root(member),
            Name::Opaque { parent } => {
                let place = self.parent(parent)?;
                return self.opaque(&place.path);
            }
            Name::Whiteout { parent, name } => {
                let place = self.parent(parent)?;
                return self.whiteout(&place, &c_name(name)?);
            }
            Name::Plain { parent, name } => (self.parent(parent)?, c_name(name)?),
        };
        let path = parent.path_of(&name);
        member::check_length(&path).map_err(Failure::Member)?;
        let to = (parent.directory.as_fd(), name.as_c_str());
        match member.kind {
            Kind::Directory => self.directory(&path, to, member),
            Kind::Link => self.link(&path, to, member),
            Kind::Character | Kind::Block => {
                self.make_room(&path, to)?;
                if self.below.has(&path) {
                    self.making.whiteout(to)?;
                    self.directories.add_whiteout(&path);
                }
                self.list(member.entry(&path))
            }
            _ => {
                self.make_room(&path, to)?;
                match member.kind {
                    Kind::File => {
                        bounds.count_bytes(member.holes()).map_err(Failure::Whole)?;
                        self.making.file(to, &member, archive)?;
                        self.bytes = self.bytes.saturating_add(member.size);
                    }
                    Kind::Symlink => self.making.symlink(to, &member)?,
                    _ => self.making.fifo(to, &member)?,
                }
                self.list(member.entry(&path))
            }
        }
    }

    /// The root is there, and gets its properties.
    fn root(&mut self, member: Member) -> Result<(), Failure> {
        match member.kind {
            Kind::Directory => {
                self.list(member.entry(b""))?;
                self.directories.set(Vec::new(), member.attributes);
                Ok(())
            }
            _ => Err(Failure::Member("has no name")),
        }
    }

    fn directory(&mut self, path: &[u8], to: At<'_>, member: Member) -> Result<(), Failure> {
        if !self.directories.has(path) {
            let was_hidden = self.make_room(path, to)?;
            self.making.directory(to)?;
            self.list(member.entry(path))?;
            self.directories.set(path.to_vec(), member.attributes);
            // What is below was hidden, and must not be merged into it.
            return if was_hidden { self.opaque(path) } else { Ok(()) };
        }
        self.list(member.entry(path))?;
        self.directories.set(path.to_vec(), member.attributes);
        Ok(())
    }

    fn link(&mut self, path: &[u8], to: At<'_>, member: Member) -> Result<(), Failure> {
        const ELSEWHERE: Failure = Failure::Member("is a hard link to what isn't in the layer");
        let (parent, name) = member.link_target().map_err(Failure::Member)?;
        let from = self.parents.find(&parent).map_err(|_| ELSEWHERE)?;
        let name = c_name(&name)?;
        let target = from.path_of(&name);
        if target == path {
            return Err(Failure::Member("is a hard link to itself"));
        }
        if self.directories.is_whiteout(&target) {
            return Err(ELSEWHERE);
        }
        if self.directories.has(&target) {
            return Err(Failure::Member("is a hard link to a directory"));
        }
        self.make_room(path, to)?;
        match self.making.link((from.directory.as_fd(), &name), to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ELSEWHERE),
            linked => linked?,
        }
        self.list(Entry { target: Some(Bytes(target)), ..Entry::new(path, Kind::Link) })
    }

    fn whiteout(&mut self, parent: &Place, name: &CStr) -> Result<(), Failure> {
        let path = parent.path_of(name);
        self.list(Entry::new(&path, Kind::Whiteout))?;
        // What the same layer has is not meant, but what is below a directory is.
        if self.directories.has(&path) {
            return self.mark_opaque(&path);
        }
        if self.below.has(&path) {
            match self.making.whiteout((parent.directory.as_fd(), name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    self.directories.add_whiteout(&path);
                }
            }
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), Failure> {
        self.list(Entry::new(path, Kind::Opaque))?;
        self.mark_opaque(path)
    }

    fn mark_opaque(&mut self, path: &[u8]) -> Result<(), Failure> {
        self.making.opaque(&self.parents.open(path)?)?;
        self.directories.add_opaque(path);
        Ok(())
    }

    /// Removes what is there. Says whether that was a whiteout.
    fn make_room(&mut self, path: &[u8], to: At<'_>) -> Result<bool, Failure> {
        if !remove(to)? {
            return Ok(false);
        }
        self.parents.forget();
        let was_whiteout = self.directories.is_whiteout(path);
        self.directories.remove(path);
        Ok(was_whiteout)
    }

    /// The directory that a path of the archive's stands for. Those that aren't there are made.
    fn parent(&mut self, path: &[u8]) -> Result<Place, Failure> {
        loop {
            match self.parents.find(path) {
                Ok(place) => return Ok(place),
                Err(parents::NotFound::Missing(place, name)) => {
                    let path = place.path_of(&name);
                    member::check_length(&path).map_err(Failure::Member)?;
                    let to = (place.directory.as_fd(), name.as_c_str());
                    let was_hidden = self.make_room(&path, to)?;
                    self.making.directory(to)?;
                    if was_hidden {
                        self.directories.set(path.clone(), member::Attributes::implied());
                        self.list_implied(&path)?;
                        self.opaque(&path)?;
                    } else {
                        self.imply(path).map_err(Failure::Whole)?;
                    }
                }
                Err(parents::NotFound::Never(why)) => return Err(Failure::Member(why)),
                Err(parents::NotFound::Failed(errno)) => return Err(errno.into()),
            }
        }
    }

    /// Gives a directory that is there the properties of that below it.
    fn imply(&mut self, path: Vec<u8>) -> Result<(), UnpackError> {
        let attributes = self.below.directory(&path).unwrap_or_else(member::Attributes::implied);
        let entry = Entry { implied: true, ..attributes.entry(&path, Kind::Directory) };
        self.entries.write(&entry).map_err(UnpackError::Entries)?;
        self.directories.set(path, attributes);
        Ok(())
    }

    fn list_implied(&mut self, path: &[u8]) -> Result<(), Failure> {
        let attributes = member::Attributes::implied();
        self.list(Entry { implied: true, ..attributes.entry(path, Kind::Directory) })
    }

    fn list(&mut self, entry: Entry) -> Result<(), Failure> {
        self.entries.write(&entry).map_err(|error| Failure::Whole(UnpackError::Entries(error)))
    }

    /// Gives the directories their properties, which may close them, once they are filled.
    fn settle(&mut self) -> Result<(), UnpackError> {
        for path in self.directories.useless_whiteouts() {
            let removed = self.parents.remove(&path);
            removed.map_err(|errno| UnpackError::Write {
                path: path_of(&path),
                source: errno.into(),
            })?;
        }
        for (path, attributes) in self.directories.take() {
            let settled = self.parents.open(&path).map_err(io::Error::from);
            let settled = settled.and_then(|at| self.making.settle(&File::from(at), &attributes));
            settled.map_err(|source| UnpackError::Write { path: path_of(&path), source })?;
        }
        Ok(())
    }
}

fn c_name(name: &[u8]) -> Result<CString, Failure> {
    CString::new(name).map_err(|_| Failure::Member("has a NUL byte in its path"))
}
