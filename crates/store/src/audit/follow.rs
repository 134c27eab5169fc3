//! Reading the log while it grows.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{AuditError, Entries, Filter, Logged};

/// The entries of a log and those that are still to come; it never ends. An error to read the
/// files comes once, and is the last.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    entries: Entries,
    events: OwnedFd,
    /// The folder that is watched: the log's, or the nearest above it that there is.
    watched: Option<PathBuf>,
    failed: bool,
}

/// Reads the log as [`read`](super::read) does and then waits for more. Neither the log
/// nor its folder need be there yet. If somebody moves it away, it goes on with the next one.
pub fn follow(path: &Path, filter: Filter) -> Result<Follow, AuditError> {
    let events = inotify::init(CreateFlags::CLOEXEC);
    let events = events.map_err(|errno| AuditError::read(path, errno.into()))?;
    let entries = Entries::new(path, None, filter);
    Ok(Follow { path: path.into(), entries, events, watched: None, failed: false })
}

impl Iterator for Follow {
    type Item = Result<Logged, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            if let Some(entry) = self.entries.next_whole() {
                self.failed = matches!(entry, Err(AuditError::Read { .. }));
                return Some(entry);
            }
            let more = self.look_for_another().and_then(|another| match another {
                true => Ok(()),
                false => self.wait(),
            });
            if let Err(err) = more {
                self.failed = true;
                return Some(Err(AuditError::read(&self.path, err)));
            }
        }
        None
    }
}

impl Follow {
    /// Turns to the file that has the log's path, if it is not the one that is read already; says
    /// whether it did.
    fn look_for_another(&mut self) -> io::Result<bool> {
        self.watch_folder()?;
        let file = match File::open(&self.path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        if let Some(current) = self.entries.file() {
            let (current, there) = (current.metadata()?, file.metadata()?);
            if (current.dev(), current.ino()) == (there.dev(), there.ino()) {
                return Ok(false);
            }
        }
        // It is watched before it is read, so what is written in between is not missed.
        inotify::add_watch(&self.events, &self.path, WatchFlags::MODIFY)?;
        self.entries.turn_to(file);
        Ok(true)
    }

    /// Watches the log's folder, or the nearest one above it until there is one.
    fn watch_folder(&mut self) -> io::Result<()> {
        loop {
            // Looked for again after each watch, for the next may have been made before it.
            let folders = self.path.ancestors().skip(1).map(|folder| match folder {
                folder if folder.as_os_str().is_empty() => Path::new("."),
                folder => folder,
            });
            let nearest = folders.into_iter().find(|folder| folder.is_dir());
            let nearest = nearest.unwrap_or(Path::new("/")).to_owned();
            if self.watched.as_ref() == Some(&nearest) {
                return Ok(());
            }
            let appears = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            match inotify::add_watch(&self.events, &nearest, appears) {
                Ok(_) => self.watched = Some(nearest),
                // It was removed since.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until the file, or which file it is, may have changed.
    fn wait(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.events, &mut buffer);
        retry_on_intr(|| reader.next().map(drop))?;
        // The rest of what has been read is the same news.
        Ok(())
    }
}
