//! A file without a name in the store, for what can be read only once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use agentkernel_images::{Digest, Hasher, Images};

use super::ImportError;
use crate::packed;
use crate::{Bounds, UnpackError};

/// What is read at a time, in bytes.
const BUFFER: usize = 256 << 10;

pub(super) struct Spool {
    file: File,
    folder: PathBuf,
    hasher: Hasher,
    size: u64,
}

impl Spool {
    pub fn begin(images: &Images) -> Result<Self, ImportError> {
        // While this is held the folder stays, and afterwards the file needs none.
        let filling = images.fill()?;
        let folder = filling.images().root().join("work");
        let began = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let path = folder.join(format!("spool-{}-{began}", std::process::id()));
        let make = || {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        };
        let file = make().map_err(ImportError::io("can't make a file in", &folder))?;
        Ok(Self { file, folder, hasher: Hasher::default(), size: 0 })
    }

    /// Puts all of an archive into it, unpacked.
    pub fn fill(&mut self, input: impl Read + Send, path: &Path) -> Result<(), ImportError> {
        let failed = |source| ImportError::Packed { path: path.into(), source };
        let (_, unpacked) = packed::open(input).map_err(failed)?;
        let mut unpacked = unpacked.take(Bounds::default().bytes + 1);
        let mut buffer = vec![0; BUFFER];
        loop {
            match unpacked.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.write_all(&buffer[..count]).map_err(|error| self.failed(error))?
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(UnpackError::Archive(error))),
            }
        }
        match unpacked.limit() {
            0 => Err(failed(UnpackError::TooManyBytes)),
            _ => Ok(()),
        }
    }

    pub fn failed(&self, error: io::Error) -> ImportError {
        ImportError::io("can't write in", &self.folder)(error)
    }

    /// All of it, its digest and its size.
    pub fn finish(self) -> Result<(File, Digest, u64), ImportError> {
        Ok((self.file, self.hasher.finish(), self.size))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of a file, and its size.
pub(super) fn digest(mut file: &File) -> io::Result<(Digest, u64)> {
    file.rewind()?;
    let mut hasher = Hasher::default();
    let mut size = 0;
    let mut input = BufReader::with_capacity(BUFFER, file);
    loop {
        let bytes = io::BufRead::fill_buf(&mut input)?;
        if bytes.is_empty() {
            return Ok((hasher.finish(), size));
        }
        hasher.update(bytes);
        let count = bytes.len();
        size += count as u64;
        io::BufRead::consume(&mut input, count);
    }
}
