//! What is read of the layers' trees.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, fstat, open, readlinkat};
use rustix::io::Errno;

use crate::opener::{Opener, open_beneath};
use crate::stream::{NotCopied, Stream};
use crate::{RootImageError, path_of};

pub(crate) struct Contents {
    trees: Vec<PathBuf>,
    roots: Vec<OwnedFd>,
    /// Once it was needed.
    opener: Option<Opener>,
}

impl Contents {
    /// Of these trees, by their layers' numbers.
    pub fn open(trees: &[PathBuf]) -> Result<Self, RootImageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = |tree: &PathBuf| {
            let opened = open(tree, flags, Mode::empty());
            opened
                .map_err(|errno| RootImageError::Read { path: tree.clone(), source: errno.into() })
        };
        let roots = trees.iter().map(root).collect::<Result<_, _>>()?;
        Ok(Self { trees: trees.to_vec(), roots, opener: None })
    }

    /// Where a link leads.
    pub fn target(&mut self, layer: u16, path: &[u8]) -> Result<Vec<u8>, RootImageError> {
        let read = |this: &mut Self| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            Ok(readlinkat(this.opened(layer, path, flags)?, c"", Vec::new())?.into_bytes())
        };
        read(self).map_err(|error| self.unreadable(layer, path, error))
    }

    /// The same, where its length was looked at before.
    pub fn target_of(
        &mut self,
        layer: u16,
        path: &[u8],
        size: u64,
    ) -> Result<Vec<u8>, RootImageError> {
        let target = self.target(layer, path)?;
        match target.len() as u64 == size {
            true => Ok(target),
            false => Err(self.damaged(layer, path)),
        }
    }

    /// All of a file that is short.
    pub fn short(&mut self, layer: u16, path: &[u8], size: u64) -> Result<Vec<u8>, RootImageError> {
        use std::os::unix::fs::FileExt;

        let file = self.file(layer, path, size)?;
        let mut data = vec![0; size as usize];
        match file.read_exact_at(&mut data, 0) {
            Ok(()) => Ok(data),
            Err(error) => Err(self.unreadable(layer, path, error)),
        }
    }

    /// Copies a file.
    pub fn copy(
        &mut self,
        layer: u16,
        path: &[u8],
        size: u64,
        to: &mut Stream<'_>,
    ) -> Result<(), RootImageError> {
        let file = self.file(layer, path, size)?;
        to.copy(&file, size).map_err(|error| match error {
            NotCopied::Length => self.damaged(layer, path),
            NotCopied::Read(error) => self.unreadable(layer, path, error),
            NotCopied::Write(error) => error,
        })
    }

    fn file(&mut self, layer: u16, path: &[u8], size: u64) -> Result<File, RootImageError> {
        let opened = self.opened(layer, path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = opened.map_err(|error| self.unreadable(layer, path, error))?;
        let stat = fstat(&file).map_err(|errno| self.unreadable(layer, path, errno.into()))?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        match is_file && u64::try_from(stat.st_size) == Ok(size) {
            true => Ok(File::from(file)),
            false => Err(self.damaged(layer, path)),
        }
    }

    fn opened(&mut self, layer: u16, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let name = CString::new(path)?;
        match open_beneath(&self.roots[usize::from(layer)], &name, flags) {
            // All files of an ordinary user's store are the caller's, but some are closed even so.
            Err(Errno::ACCESS) => {
                let opener = match &mut self.opener {
                    Some(opener) => opener,
                    // Where there can be no user namespace nobody may read it.
                    none => none.insert(Opener::start(&self.roots).map_err(|_| Errno::ACCESS)?),
                };
                opener.open(layer, &name, flags)
            }
            opened => Ok(opened?),
        }
    }

    fn unreadable(&self, layer: u16, path: &[u8], source: io::Error) -> RootImageError {
        let path = self.trees[usize::from(layer)].join(path_of(path));
        RootImageError::Read { path, source }
    }

    fn damaged(&self, layer: u16, path: &[u8]) -> RootImageError {
        let path = self.trees[usize::from(layer)].join(path_of(path));
        RootImageError::damaged(&path, "it is not what the layer's list says")
    }
}
