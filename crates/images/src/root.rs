//! Files that hold all of an image's files, made of its layers.
//!
//! What is in one, and how it is made, is known to whoever makes it: the store keeps it by the chain
//! of the topmost layer and by the name of its form, and clears it away with the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::image::lock;
use crate::removal::remove_tree;
use crate::store::entries;
use crate::{Chain, Filling, Images, ImagesError, Record};

/// Such a file in the making. Dropped, it is removed.
#[derive(Debug)]
pub struct RootDraft {
    /// Empty, and open to be written and read.
    pub file: File,
    path: PathBuf,
    place: PathBuf,
    _turn: File,
}

impl Images {
    /// Where the file of this form is, if it is there, of the layers up to `chain`.
    pub fn root_file(&self, chain: &Chain, form: &str) -> PathBuf {
        self.folder("roots").join(format!("{}.{form}", chain.hex()))
    }

    /// What such files take of the disk, in bytes, by the digits of their chains.
    pub(crate) fn root_bytes(&self) -> Result<BTreeMap<String, u64>, ImagesError> {
        let mut bytes = BTreeMap::new();
        for name in entries(&self.folder("roots"))? {
            let taken = taken_by(&self.folder("roots").join(&name));
            *bytes.entry(chain_of(&name).to_owned()).or_default() += taken;
        }
        Ok(bytes)
    }

    /// Removes those that no image has, and says what they took.
    pub(crate) fn clear_roots(&self, stay: &[Record]) -> Result<u64, ImagesError> {
        let used: BTreeSet<&str> = stay.iter().filter_map(Record::top).map(Chain::hex).collect();
        let mut bytes = 0;
        for name in entries(&self.folder("roots"))? {
            if used.contains(chain_of(&name)) {
                continue;
            }
            let path = self.folder("roots").join(&name);
            bytes += taken_by(&path);
            fs::remove_file(&path).map_err(ImagesError::io("can't remove", &path))?;
        }
        Ok(bytes)
    }
}

impl Filling {
    /// Begins such a file. None if it is there, perhaps since another process made it, for which this
    /// waits.
    pub fn draft_root(&self, chain: &Chain, form: &str) -> Result<Option<RootDraft>, ImagesError> {
        let images = self.images();
        let place = images.root_file(chain, form);
        // Nobody else has this name, so what a killed maker has left is made anew.
        let path = images.folder("work").join(format!("{}.{form}", chain.hex()));
        let turn = path.with_added_extension("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let lock_file = options.clone().create(true).truncate(false).open(&turn);
        let lock_file = lock_file.map_err(ImagesError::io("can't lock", &turn))?;
        lock(&lock_file, FlockOperation::LockExclusive)
            .map_err(ImagesError::io("can't lock", &turn))?;
        if place.exists() {
            return Ok(None);
        }
        let failed = || ImagesError::io("can't make", &path);
        remove_tree(&path).map_err(failed())?;
        let file = options.create_new(true).open(&path).map_err(failed())?;
        Ok(Some(RootDraft { file, path, place, _turn: lock_file }))
    }
}

impl RootDraft {
    /// Keeps it, once it is whole. Nobody writes to it from then on, and whoever is shown it may read
    /// it: a virtual machine's process may be another user.
    pub fn keep(self) -> Result<(), ImagesError> {
        let failed = || ImagesError::io("can't keep", &self.place);
        self.file.set_permissions(Permissions::from_mode(0o444)).map_err(failed())?;
        self.file.sync_all().map_err(failed())?;
        fs::rename(&self.path, &self.place).map_err(failed())
    }
}

impl Drop for RootDraft {
    fn drop(&mut self) {
        // One that is kept is not there any more, and what is left is cleared away with the rest.
        let _ = fs::remove_file(&self.path);
    }
}

fn chain_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(chain, _)| chain)
}

/// What a file takes of the disk: one with holes is longer. What is gone takes nothing.
fn taken_by(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |found| found.blocks() * 512)
}
