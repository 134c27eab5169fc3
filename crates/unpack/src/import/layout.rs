//! The layout of the OCI image specification, in a folder or an archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use agentkernel_core::Reference;
use agentkernel_images::{Digest, Filling, Hasher};
use serde::Deserialize;

use super::ImportError;
use super::files::Files;
use crate::manifest::Descriptor;
use crate::{Part, Source};

/// What says an image's name: its tag or all of it, and all of it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// What is read at a time, in bytes.
const BUFFER: usize = 128 << 10;

pub(super) struct Layout<F> {
    files: F,
    path: PathBuf,
    /// The index as a whole, or the one image that is meant.
    top: Top,
}

enum Top {
    Index(Vec<u8>),
    Image(Descriptor),
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl<F: Files> Layout<F> {
    /// Opens the layout at `path`, and finds the image of a name in it.
    pub fn open(files: F, path: &Path, name: Option<&str>) -> Result<Self, ImportError> {
        let bytes = files.read("index.json").map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ImportError::wrong(path, "it has no index.json"),
            _ => ImportError::io("can't read the index.json of", path)(error),
        })?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|error| ImportError::wrong(path, format!("its index.json: {error}")))?;
        let there = || index.manifests.iter().filter_map(|one| name_of(one).map(Into::into));
        let top = match (name, index.manifests.as_slice()) {
            (None, [one]) => Top::Image(one.clone()),
            (None, many) if many.iter().any(|one| one.platform.is_some()) => Top::Index(bytes),
            (None, _) => {
                return Err(ImportError::Several { path: path.into(), there: there().collect() });
            }
            (Some(name), many) => {
                let mut named = many.iter().filter(|one| is_named(one, name));
                Top::Image(named.next().cloned().ok_or_else(|| ImportError::NoSuch {
                    path: path.into(),
                    name: name.into(),
                    there: there().collect(),
                })?)
            }
        };
        Ok(Self { files, path: path.into(), top })
    }

    /// What the image is called by itself, if that is more than a tag.
    pub fn names(&self) -> Vec<String> {
        let Top::Image(image) = &self.top else { return Vec::new() };
        let full = image
            .annotations
            .get(FULL_NAME)
            .or_else(|| image.annotations.get(REF_NAME).filter(|name| name.contains([':', '/'])));
        full.into_iter().filter(|name| Reference::parse(name).is_ok()).cloned().collect()
    }

    fn open_blob(&self, part: &Part) -> Result<(File, u64), ImportError> {
        let name = format!("blobs/sha256/{}", part.digest.hex());
        let (file, size) = self.files.open(&name).map_err(|source| ImportError::Io {
            what: "can't read a part of",
            path: self.path.clone(),
            source,
        })?;
        match size == part.size {
            true => Ok((file, size)),
            false => Err(self.wrong(part, &format!("has {size} bytes, and not {}", part.size))),
        }
    }

    fn wrong(&self, part: &Part, why: &str) -> ImportError {
        ImportError::wrong(&self.path, format!("its {} {why}", part.digest))
    }

    fn read(&self, part: &Part) -> Result<Vec<u8>, ImportError> {
        // Its digest is made sure of by whoever reads it.
        self.open_blob(part)?;
        let name = format!("blobs/sha256/{}", part.digest.hex());
        self.files.read(&name).map_err(ImportError::io("can't read a part of", &self.path))
    }
}

fn name_of(one: &Descriptor) -> Option<&str> {
    let name = one.annotations.get(FULL_NAME).or_else(|| one.annotations.get(REF_NAME));
    name.map(String::as_str)
}

fn is_named(one: &Descriptor, name: &str) -> bool {
    let names = [FULL_NAME, REF_NAME].map(|key| one.annotations.get(key));
    let full = |name: &str| Reference::parse(name).ok().map(|reference| reference.in_full());
    names.into_iter().flatten().any(|one| one == name || full(one) == full(name))
}

impl<F: Files> Source for Layout<F> {
    type Error = ImportError;

    fn top(&self) -> Result<(Vec<u8>, Option<String>), ImportError> {
        match &self.top {
            Top::Index(bytes) => Ok((bytes.clone(), None)),
            Top::Image(image) => {
                let part = image.part();
                let bytes = self.read(&part)?;
                let found = Digest::of(&bytes);
                match found == part.digest {
                    true => Ok((bytes, Some(part.kind).filter(|kind| !kind.is_empty()))),
                    false => Err(self.wrong(&part, &format!("is {found} by its content"))),
                }
            }
        }
    }

    fn small(&self, part: &Part) -> Result<Vec<u8>, ImportError> {
        self.read(part)
    }

    fn layer(
        &self,
        _filling: &Filling,
        part: &Part,
        is_needless: &dyn Fn() -> bool,
        came: &(dyn Fn(u64) + Sync),
    ) -> Result<Option<File>, ImportError> {
        if is_needless() {
            return Ok(None);
        }
        let (mut file, size) = self.open_blob(part)?;
        let found = digest_of(&mut file, size, came);
        let found = found.map_err(ImportError::io("can't read a part of", &self.path))?;
        match found == part.digest {
            true => Ok(Some(file)),
            false => Err(self.wrong(part, &format!("is {found} by its content"))),
        }
    }
}

/// The digest of what comes next in a file, which stands there again afterwards.
fn digest_of(file: &mut File, size: u64, came: &(dyn Fn(u64) + Sync)) -> io::Result<Digest> {
    let start = file.stream_position()?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER];
    let mut rest = (&mut *file).take(size);
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                came(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.seek(SeekFrom::Start(start))?;
    Ok(hasher.finish())
}
