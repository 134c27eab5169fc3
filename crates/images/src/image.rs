//! An image that somebody uses.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, fstat};

use crate::{Digest, Images, ImagesError, Record};

/// An image that is held: it stays whole for as long as this lives.
#[derive(Debug)]
pub struct Image {
    record: Record,
    layers: Vec<PathBuf>,
    module: Option<PathBuf>,
    /// Its record's file, locked for those who only look.
    _held: File,
}

impl Image {
    /// The image of this manifest; none if it is not there.
    pub fn open(images: &Images, manifest: &Digest) -> Result<Option<Self>, ImagesError> {
        let path = images.image_file(manifest);
        let mut held = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(ImagesError::io("can't read", &path))?,
        };
        let failed = |error| ImagesError::io("can't read", &path)(error);
        lock(&held, FlockOperation::LockShared).map_err(failed)?;
        // Whoever removes it locks it first, alone.
        if fstat(&held).map_err(|errno| failed(errno.into()))?.st_nlink == 0 {
            return Ok(None);
        }
        let mut text = Vec::new();
        held.read_to_end(&mut text).map_err(failed)?;
        let damaged = |why: String| ImagesError::Damaged { path: path.clone(), why };
        let record: Record =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if record.manifest != *manifest {
            return Err(damaged("it is another image's".into()));
        }
        let layers = record.layers.iter().map(|layer| images.layer(&layer.chain)).collect();
        let module = record.module.as_ref().map(|path| images.folder("layers").join(path));
        Ok(Some(Self { record, layers, module, _held: held }))
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn into_record(self) -> Record {
        self.record
    }

    /// The trees of its layers, the lowest first.
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// The module's file, if it is one.
    pub fn module(&self) -> Option<&Path> {
        self.module.as_deref()
    }
}

/// Takes a lock on a file, for as long as it is open.
pub(crate) fn lock(file: &File, how: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, how) {
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}
