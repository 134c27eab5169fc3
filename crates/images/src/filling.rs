//! Bringing an image into the store.
//!
//! Several may bring in the same at once: a packed layer is fetched by one of them, and unpacked by
//! one. Whoever is killed leaves nothing that is taken for whole, and what it had fetched is there
//! for the next.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, syncfs};

use crate::image::lock;
use crate::removal::remove_tree;
use crate::{Chain, Digest, Images, ImagesError, Record, names};

/// While this is there, nothing of the store is cleared away.
#[derive(Debug)]
pub struct Filling {
    images: Images,
    _lock: File,
}

impl Images {
    /// Begins to bring something in. Waits while somebody clears away.
    pub fn fill(&self) -> Result<Filling, ImagesError> {
        self.prepare()?;
        let lock = self.lock_file()?;
        crate::image::lock(&lock, FlockOperation::LockShared)
            .map_err(ImagesError::io("can't lock", &self.folder("lock")))?;
        Ok(Filling { images: self.clone(), _lock: lock })
    }

    pub(crate) fn lock_file(&self) -> Result<File, ImagesError> {
        let path = self.folder("lock");
        let open =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        open.map_err(ImagesError::io("can't open", &path))
    }
}

impl Filling {
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Whether a layer is there.
    pub fn has(&self, chain: &Chain) -> bool {
        self.images.layer(chain).exists()
    }

    /// A packed layer that somebody fetches: this process, or another one, for which it waits. None if
    /// `is_needless` by the time that it is known.
    pub fn download(
        &self,
        digest: &Digest,
        is_needless: impl Fn() -> bool,
    ) -> Result<Option<Download>, ImagesError> {
        let whole = self.images.folder("downloads").join(digest.hex());
        let path = whole.with_extension("part");
        let failed = || ImagesError::io("can't fetch into", &path);
        loop {
            if is_needless() {
                return Ok(None);
            }
            if let Ok(file) = File::open(&whole) {
                return Ok(Some(Download::Whole(file)));
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(failed())?;
            lock(&file, FlockOperation::LockExclusive).map_err(failed())?;
            // Whoever had it may have come to its end with it.
            let ours = file.metadata().map_err(failed())?;
            let is_ours = fs::metadata(&path).is_ok_and(|found| found.ino() == ours.ino());
            if is_ours && !whole.exists() {
                return Ok(Some(Download::Partial(Partial { file, path, whole })));
            }
        }
    }

    /// Forgets a packed layer, once it is unpacked. Whoever has it open keeps it.
    pub fn forget_download(&self, digest: &Digest) {
        // Another one may have done so, and what is left is cleared away with the rest.
        let _ = fs::remove_file(self.images.folder("downloads").join(digest.hex()));
    }

    /// Waits until nobody else, in any process, makes what has these digits, until the result is dropped.
    fn turn(&self, hex: &str) -> Result<File, ImagesError> {
        let path = self.images.folder("work").join(format!("{hex}.lock"));
        let failed = || ImagesError::io("can't lock", &path);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed())?;
        lock(&file, FlockOperation::LockExclusive).map_err(failed())?;
        Ok(file)
    }

    /// The turn to bring in the image of this manifest: who waits for it finds the image there, unless
    /// whoever had it before has failed.
    pub fn image_turn(&self, manifest: &Digest) -> Result<File, ImagesError> {
        self.turn(manifest.hex())
    }

    /// Begins a layer: a folder that nobody else knows. None if it is there, perhaps since another
    /// process made it, for which this waits.
    pub fn draft(&self, chain: &Chain) -> Result<Option<Draft>, ImagesError> {
        let turn = self.turn(chain.hex())?;
        if self.has(chain) {
            return Ok(None);
        }
        let path = self.images.work_path();
        let root = path.join("root");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&root);
        made.map_err(ImagesError::io("can't make the folder", &root))?;
        let place = self.images.folder("layers").join(chain.hex());
        Ok(Some(Draft { path, place, _turn: turn }))
    }

    /// Keeps a manifest or a configuration.
    pub fn keep_blob(&self, bytes: &[u8]) -> Result<Digest, ImagesError> {
        let digest = Digest::of(bytes);
        self.images.write(&self.images.folder("blobs").join(digest.hex()), bytes)?;
        Ok(digest)
    }

    /// Keeps an image all of whose layers and blobs are there, under these names as well.
    pub fn keep(&self, record: &Record, names: &[&str]) -> Result<(), ImagesError> {
        let full: Vec<String> = names
            .iter()
            .map(|name| names::parse(name).map(|(full, _)| full))
            .collect::<Result<_, _>>()?;
        let path = self.images.image_file(&record.manifest);
        // One that is there may be held by its lock, which a new file would not have.
        if !path.exists() {
            let text = serde_json::to_vec(record).map_err(io::Error::from);
            let text = text.map_err(ImagesError::io("can't write", &path))?;
            self.images.write(&path, &text)?;
        }
        full.iter().try_for_each(|name| self.images.write_name(name, &record.manifest))
    }
}

/// A packed layer in the store.
#[derive(Debug)]
pub enum Download {
    /// All of it, made sure of by whoever fetched it.
    Whole(File),
    /// As much as has come so far, to be gone on with.
    Partial(Partial),
}

/// A packed layer that is being fetched, by this process alone.
#[derive(Debug)]
pub struct Partial {
    /// What has come, from its start.
    pub file: File,
    path: PathBuf,
    whole: PathBuf,
}

impl Partial {
    /// Says that it is whole, its digest made sure of.
    pub fn complete(self) -> Result<File, ImagesError> {
        fs::rename(&self.path, &self.whole).map_err(ImagesError::io("can't keep", &self.whole))?;
        Ok(self.file)
    }
}

/// A layer in the making. Dropped, it is removed.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    place: PathBuf,
    _turn: File,
}

impl Draft {
    /// Where its tree goes, an empty folder.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// The file that lists what is in it, to be made: who owns what, and all else that a tree of an
    /// ordinary user's can't hold.
    pub fn entries(&self) -> PathBuf {
        self.path.join("entries")
    }

    /// Keeps it, once it is whole and on the disk.
    pub fn keep(self) -> Result<(), ImagesError> {
        let failed = || ImagesError::io("can't keep the layer", &self.place);
        let folder = File::open(&self.path).map_err(failed())?;
        syncfs(&folder).map_err(|errno| failed()(errno.into()))?;
        fs::rename(&self.path, &self.place).map_err(failed())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What is left is cleared away with the rest.
        let _ = remove_tree(&self.path);
    }
}
