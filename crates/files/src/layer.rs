//! Layers: what a sandbox wrote, and over what.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory::Directory;
use crate::error::{FilesError, While};
use crate::facts::FileKind;
use crate::walk::{Visitor, walk};

/// One overlay of a sandbox. Paths of the host have no symbolic link in them.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Where it shows in the sandbox, absolute; `/` for the root.
    pub target: PathBuf,
    /// What lies under it. Nothing for a root that was made up: then all that was written is news, and
    /// what the overlay copied up is a change.
    pub lower: Option<Lower>,
    /// The directory of the host that holds what was written.
    pub upper: PathBuf,
    /// Paths in the sandbox that are not the layer's, such as places where something else is mounted.
    /// Neither they nor what is below is looked at. Targets of other layers need to be named only for
    /// `apply`, which is given a single one.
    pub skip: Vec<PathBuf>,
}

/// What a layer lies over.
#[derive(Debug, Clone)]
pub enum Lower {
    /// A directory of the host, to which changes can be applied.
    Host(PathBuf),
    /// The open directory of something that is only looked at.
    Shown(Arc<OwnedFd>),
}

impl Lower {
    fn open(&self) -> Result<Directory, FilesError> {
        match self {
            Self::Host(path) => Directory::root(path).doing("open", path),
            Self::Shown(directory) => {
                Directory::shown(directory).doing("open the image under", Path::new("/"))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Changed,
    Deleted,
}

/// One difference between what the host gave and what the sandbox made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute, in the sandbox.
    pub path: PathBuf,
    pub kind: ChangeKind,
    /// What is there now, or what was deleted.
    pub what: FileKind,
}

impl Layer {
    /// Whether a path of the sandbox, made only of names, is the layer's or below it.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.target)
    }

    /// Walks through the layer, less what belongs to the others.
    pub(crate) fn walk(
        &self,
        others: &[Layer],
        visitor: &mut dyn Visitor,
    ) -> Result<(), FilesError> {
        let upper = Directory::root(&self.upper).doing("open", &self.upper)?;
        let lower = self.lower.as_ref().map(Lower::open).transpose()?;
        let mut skip = self.skip.clone();
        skip.extend(others.iter().map(|other| other.target.clone()));
        walk(upper, lower, &self.target, &skip, visitor)
    }
}
