//! The folder of the kernel for machines, which is made beside its place and put there whole.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentkernel_core::hex;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};

use crate::source::HashWriter;
use crate::{SetupError, Written};

/// What every other file's digest is in, as sha256sum(1) reads it.
const SUMS: &str = "SHA256SUMS";

/// A kernel that is being put together. Whoever else does so waits, so a draft that is there is that of
/// one who was killed.
pub struct Draft {
    /// What will be in the place.
    pub folder: PathBuf,
    /// What is only needed meanwhile.
    pub tree: PathBuf,
    place: PathBuf,
    files: Vec<Written>,
    _lock: File,
}

impl Draft {
    /// Begins one for `place`, after whoever is at it.
    pub fn begin(place: &Path) -> Result<Self, SetupError> {
        let above = place.parent().unwrap_or(place);
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(above).map_err(SetupError::write(above))?;
        let path = above.join("setup.lock");
        let lock = File::create(&path).map_err(SetupError::write(&path))?;
        lock.lock().map_err(SetupError::write(&path))?;
        let [folder, tree] = ["part", "tree"].map(|end| place.with_extension(end));
        for path in [&folder, &tree] {
            remove(path)?;
            builder.create(path).map_err(SetupError::write(path))?;
        }
        Ok(Self { folder, tree, place: place.to_owned(), files: Vec::new(), _lock: lock })
    }

    /// Adds a file.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), SetupError> {
        let path = self.folder.join(name);
        let above = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(above).map_err(SetupError::write(above))?;
        File::create_new(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(SetupError::write(&path))?;
        self.note(name)
    }

    /// Counts a file in that is there.
    pub fn note(&mut self, name: &str) -> Result<(), SetupError> {
        // Firecracker may be another user.
        let path = self.folder.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o644))
            .map_err(SetupError::write(&path))?;
        self.files.push(digest(&self.folder, name)?);
        Ok(())
    }

    /// Puts all of it into its place, where it takes the place of what was there, if anything was.
    pub fn finish(mut self) -> Result<Vec<Written>, SetupError> {
        let line = |file: &Written| format!("{}  {}\n", file.sha256, file.name);
        let sums: String = self.files.iter().map(line).collect();
        self.write(SUMS, sums.as_bytes())?;
        self.files.pop();
        let flags = match self.place.symlink_metadata() {
            Ok(_) => RenameFlags::EXCHANGE,
            Err(_) => RenameFlags::NOREPLACE,
        };
        let renamed = renameat_with(CWD, &self.folder, CWD, &self.place, flags);
        renamed.map_err(|error| SetupError::write(&self.place)(error.into()))?;
        Ok(std::mem::take(&mut self.files))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays goes with the next one.
        for path in [&self.folder, &self.tree] {
            let _ = remove(path);
        }
    }
}

/// The files of a kernel that is in its place; none if they were not put there by this program. Fails
/// if they are not what was put there.
pub fn look(place: &Path) -> Result<Option<Vec<Written>>, SetupError> {
    let list = place.join(SUMS);
    let text = match fs::read_to_string(&list) {
        // By hand it may also be a file alone.
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
        text => text.map_err(SetupError::read(&list))?,
    };
    let mut files = Vec::new();
    for line in text.lines() {
        let name = line.split_once("  ").map_or(line, |(_, name)| name);
        let file = digest(place, name)?;
        if !line.starts_with(&file.sha256) {
            return Err(SetupError::Changed(place.join(name)));
        }
        files.push(file);
    }
    Ok(Some(files))
}

fn digest(folder: &Path, name: &str) -> Result<Written, SetupError> {
    let path = folder.join(name);
    let mut hasher = Sha256::new();
    let copied = File::open(&path)
        .and_then(|mut file| io::copy(&mut file, &mut HashWriter(&mut hasher)))
        .map_err(SetupError::read(&path))?;
    Ok(Written { name: name.into(), bytes: copied, sha256: hex(&hasher.finalize()) })
}

/// Removes what is there, if anything is. No link is followed.
fn remove(path: &Path) -> Result<(), SetupError> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != NotFound => Err(SetupError::write(path)(error)),
        _ => Ok(()),
    }
}
