//! Finding directories in a tree, without leaving it.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

/// How many links may lead to a directory, as in the kernel, and how many steps.
const MOST_LINKS: u32 = 40;
const MOST_STEPS: u32 = 4096;

/// A directory in the tree.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Where it really is, without links.
    pub path: Vec<u8>,
    /// To be found things in only (`O_PATH`).
    pub directory: Rc<OwnedFd>,
}

impl Place {
    /// Where something in it is.
    pub fn path_of(&self, name: &CStr) -> Vec<u8> {
        join(&self.path, name.to_bytes())
    }
}

pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        [] => name.to_vec(),
        path => [path, b"/", name].concat(),
    }
}

/// Why a directory was not found.
#[derive(Debug)]
pub(super) enum NotFound {
    /// It or a parent could be made, of this name here. A whiteout may be there.
    Missing(Place, CString),
    Never(&'static str),
    Failed(Errno),
}

pub(super) struct Parents {
    root: Rc<OwnedFd>,
    /// What was found last, by the path that was asked for: members that lie together come together.
    last: Option<(Vec<u8>, Place)>,
}

impl Parents {
    pub fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), last: None }
    }

    /// Something was removed, and perhaps what was found before.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// The directory that a path of the archive's stands for.
    pub fn find(&mut self, path: &[u8]) -> Result<Place, NotFound> {
        if let Some((asked, place)) = &self.last
            && asked == path
        {
            return Ok(place.clone());
        }
        // There is rarely a link on the way.
        let place = match self.open_with(path, OFlags::PATH) {
            Ok(directory) => Place { path: path.to_vec(), directory: Rc::new(directory) },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.walk(path)?,
            Err(errno) => return Err(NotFound::Failed(errno)),
        };
        self.last = Some((path.to_vec(), place.clone()));
        Ok(place)
    }

    fn walk(&self, path: &[u8]) -> Result<Place, NotFound> {
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
        };
        let mut waiting: VecDeque<Vec<u8>> = parts(path).into();
        let mut here = Place { path: Vec::new(), directory: self.root.clone() };
        let (mut links, mut steps) = (0, 0);
        while let Some(part) = waiting.pop_front() {
            steps += 1;
            if links > MOST_LINKS || steps > MOST_STEPS {
                return Err(NotFound::Never("lies below too many links"));
            }
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let end = here.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    here.path.truncate(end);
                    here.directory = Rc::new(
                        self.open_with(&here.path, OFlags::PATH).map_err(NotFound::Failed)?,
                    );
                    continue;
                }
                _ => {}
            }
            // A link's text has no NUL, and a path was looked at.
            let name = CString::new(part).map_err(|_| NotFound::Failed(Errno::INVAL))?;
            match open_below(&here.directory, OsStr::from_bytes(name.to_bytes()), OFlags::PATH) {
                Ok(directory) => {
                    here = Place { path: here.path_of(&name), directory: Rc::new(directory) };
                }
                Err(Errno::NOENT) => return Err(NotFound::Missing(here, name)),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let Some(target) = link_at(&here, &name)? else {
                        return Err(NotFound::Missing(here, name));
                    };
                    links += 1;
                    if target.starts_with(b"/") {
                        here = Place { path: Vec::new(), directory: self.root.clone() };
                    }
                    for part in parts(&target).into_iter().rev() {
                        waiting.push_front(part);
                    }
                }
                Err(errno) => return Err(NotFound::Failed(errno)),
            }
        }
        Ok(here)
    }

    /// Opens the directory that is really at a path.
    pub fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_with(path, OFlags::RDONLY)
    }

    /// Removes what is no directory at a real path.
    pub fn remove(&self, path: &[u8]) -> Result<(), Errno> {
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = at.map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..]));
        let parent = self.open_with(parent, OFlags::PATH)?;
        unlinkat(parent, OsStr::from_bytes(name), AtFlags::empty())
    }

    fn open_with(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        open_below(&self.root, OsStr::from_bytes(path), flags)
    }
}

pub(super) fn open_below(
    directory: impl AsFd,
    path: &OsStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    openat2(
        directory,
        path,
        flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The text of a link; none if it is a whiteout.
fn link_at(parent: &Place, name: &CStr) -> Result<Option<Vec<u8>>, NotFound> {
    let stat = statat(&parent.directory, name, AtFlags::SYMLINK_NOFOLLOW);
    match FileType::from_raw_mode(stat.map_err(NotFound::Failed)?.st_mode) {
        FileType::Symlink => {
            let text = readlinkat(&parent.directory, name, Vec::new());
            Ok(Some(text.map_err(NotFound::Failed)?.into_bytes()))
        }
        // The only devices are those that are made here.
        FileType::CharacterDevice => Ok(None),
        _ => Err(NotFound::Never("lies below what is no directory")),
    }
}
