//! Clearing away what nobody uses.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::image::lock;
use crate::store::entries;
use crate::{Digest, Images, ImagesError, Record};

/// What was cleared away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// By the digests of their manifests.
    pub images: Vec<Digest>,
    /// What went with them, layers and what was made of those, in bytes.
    pub bytes: u64,
}

impl Images {
    /// Takes a name away from its image, which stays.
    pub fn untag(&self, name: &str) -> Result<(), ImagesError> {
        let (full, _) = crate::names::parse(name)?;
        match self.read_name(&full)? {
            Some(_) => self.remove_name(&full),
            None => Err(ImagesError::NotFound(full)),
        }
    }

    /// The names of an image, in full.
    pub fn names_of(&self, manifest: &Digest) -> Result<Vec<String>, ImagesError> {
        let names = self.names()?.into_iter().filter(|(_, stands_for)| stands_for == manifest);
        Ok(names.map(|(name, _)| name).collect())
    }

    /// Removes the images that `goes` picks and nobody holds, with the names they have, and then
    /// every layer, blob and draft that no image needs. None while something is brought in.
    pub fn clear(
        &self,
        goes: impl Fn(&Record, &[String]) -> bool,
    ) -> Result<Option<Removed>, ImagesError> {
        if !self.root().exists() {
            return Ok(Some(Removed::default()));
        }
        self.prepare()?;
        let alone = self.lock_file()?;
        match lock(&alone, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            done => done.map_err(ImagesError::io("can't lock", &self.folder("lock")))?,
        }
        let mut removed = Removed::default();
        let mut stay = Vec::new();
        for record in self.records()? {
            let names = self.names_of(&record.manifest)?;
            if goes(&record, &names) && self.remove_image(&record, &names)? {
                removed.images.push(record.manifest);
            } else {
                stay.push(record);
            }
        }
        removed.bytes = self.clear_layers(&stay)? + self.clear_roots(&stay)?;
        self.clear_blobs(&stay)?;
        for folder in ["work", "downloads"].map(|name| self.folder(name)) {
            for name in entries(&folder)? {
                let path = folder.join(name);
                remove_tree(&path).map_err(ImagesError::io("can't remove", &path))?;
            }
        }
        Ok(Some(removed))
    }

    /// Removes an image's record and names, unless somebody holds it.
    fn remove_image(&self, record: &Record, names: &[String]) -> Result<bool, ImagesError> {
        let path = self.image_file(&record.manifest);
        let failed = || ImagesError::io("can't remove", &path);
        let file = File::open(&path).map_err(failed())?;
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            done => done.map_err(failed())?,
        }
        names.iter().try_for_each(|name| self.remove_name(name))?;
        fs::remove_file(&path).map_err(failed())?;
        Ok(true)
    }

    /// Removes the layers that no image has, and says what they held.
    fn clear_layers(&self, stay: &[Record]) -> Result<u64, ImagesError> {
        let layers = stay.iter().flat_map(|record| &record.layers);
        let used: BTreeSet<&str> = layers.map(|layer| layer.chain.hex()).collect();
        let mut bytes = 0;
        for name in entries(&self.folder("layers"))? {
            if used.contains(name.as_str()) {
                continue;
            }
            let path = self.folder("layers").join(name);
            // Nobody takes a part of it for the whole, should this be interrupted.
            let doomed = self.work_path();
            let failed = || ImagesError::io("can't remove", &path);
            fs::rename(&path, &doomed).map_err(failed())?;
            bytes += held_by(&doomed);
            remove_tree(&doomed).map_err(failed())?;
        }
        Ok(bytes)
    }

    fn clear_blobs(&self, stay: &[Record]) -> Result<(), ImagesError> {
        let blobs = stay.iter().flat_map(|record| [&record.manifest, &record.configuration]);
        let used: BTreeSet<&str> = blobs.map(Digest::hex).collect();
        for name in entries(&self.folder("blobs"))? {
            let path = self.folder("blobs").join(&name);
            if !used.contains(name.as_str()) {
                fs::remove_file(&path).map_err(ImagesError::io("can't remove", &path))?;
            }
        }
        Ok(())
    }
}

/// What the files of a tree hold, in bytes, as far as can be seen.
fn held_by(tree: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    each(tree, &mut |path| {
        if let Ok(found) = path.symlink_metadata()
            && found.is_file()
            && seen.insert(found.ino())
        {
            bytes += found.len();
        }
    });
    bytes
}

/// Calls `visit` with all that is in a tree, and follows no links.
fn each(tree: &Path, visit: &mut dyn FnMut(&Path)) {
    let mut waiting: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(path) = waiting.pop() {
        visit(&path);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let entries = fs::read_dir(&path).into_iter().flatten();
            waiting.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
}

/// Removes a tree or a file of ours, if it is there, in which directories may be closed even to us.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.is_dir() => return fs::remove_file(path),
        Ok(_) => {}
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            each(path, &mut |path| {
                if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                    // If that fails, so does what follows.
                    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
                }
            });
            fs::remove_dir_all(path)
        }
        done => done,
    }
}
