//! Images from folders and archives.

mod docker;
mod error;
mod files;
mod layout;
mod made;
mod rootfs;
mod spool;

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use agentkernel_images::{Images, Record};

use crate::packed::{Packing, packing};
use crate::{Platform, Source, bring};
pub use error::ImportError;
use files::{Files, Folder, Packed};
use layout::Layout;
use made::Made;
use spool::Spool;

/// Where an image is that is no registry's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportSource {
    /// A folder in the layout of the OCI specification, and which of its images.
    Layout { folder: PathBuf, name: Option<String> },
    /// An archive, packed or not: of such a layout, of what `docker save` writes, or of a root file
    /// system. And which of its images.
    Archive { path: PathBuf, name: Option<String> },
    /// The same, from the standard input.
    Stdin,
    /// A folder that is a root file system. Of what an ordinary user owns in it, root is the owner in
    /// the image.
    Rootfs(PathBuf),
}

impl FromStr for ImportSource {
    type Err = Infallible;

    /// `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`, `rootfs:DIR`, `-`, or
    /// else the path of an archive.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let archive = |(path, name)| Self::Archive { path, name };
        Ok(match text.split_once(':') {
            Some(("oci", rest)) => {
                let (folder, name) = named(rest);
                Self::Layout { folder, name }
            }
            Some(("oci-archive" | "docker-archive", rest)) => archive(named(rest)),
            Some(("rootfs", rest)) => Self::Rootfs(rest.into()),
            _ if text == "-" => Self::Stdin,
            _ => archive((text.into(), None)),
        })
    }
}

/// A path, and a name after a colon. A path with a colon in it that is there is one.
fn named(text: &str) -> (PathBuf, Option<String>) {
    match text.split_once(':') {
        Some((path, name)) if !Path::new(text).exists() => (path.into(), Some(name.into())),
        _ => (text.into(), None),
    }
}

/// Brings an image into the store, as [`bring`] does. If no names are given it gets those that it has.
pub fn import(
    images: &Images,
    what: &ImportSource,
    names: &[&str],
    platform: &Platform,
) -> Result<Record, ImportError> {
    let import = Import { images, names, platform };
    match what {
        ImportSource::Layout { folder, name } => {
            import.layout(Folder(folder.clone()), folder, name.as_deref())
        }
        ImportSource::Archive { path, name } => {
            let failed = || ImportError::io("can't read", path);
            let file = File::open(path).map_err(failed())?;
            let is_file = file.metadata().map_err(failed())?.is_file();
            let packing = if is_file { packing(&file) } else { Ok(None) };
            match packing.map_err(failed())? {
                Some(Packing::Plain) => import.archive(file, path, name.as_deref()),
                _ => import.stream(file, path, name.as_deref()),
            }
        }
        ImportSource::Stdin => import_stream(images, io::stdin(), names, platform),
        ImportSource::Rootfs(folder) => {
            let mut spool = Spool::begin(images)?;
            rootfs::write(folder, &mut spool)?;
            let (file, diff, size) = spool.finish()?;
            import.bring(&Made::of_root(file, diff, size, platform), &[])
        }
    }
}

/// Brings an image from an archive that can be read only once.
pub fn import_stream(
    images: &Images,
    input: impl Read + Send,
    names: &[&str],
    platform: &Platform,
) -> Result<Record, ImportError> {
    Import { images, names, platform }.stream(input, Path::new("the standard input"), None)
}

struct Import<'a> {
    images: &'a Images,
    names: &'a [&'a str],
    platform: &'a Platform,
}

impl Import<'_> {
    fn stream(
        &self,
        input: impl Read + Send,
        path: &Path,
        name: Option<&str>,
    ) -> Result<Record, ImportError> {
        let mut spool = Spool::begin(self.images)?;
        spool.fill(input, path)?;
        let (file, ..) = spool.finish()?;
        self.archive(file, path, name)
    }

    /// An archive that isn't packed, in a file in which all can be found.
    fn archive(&self, file: File, path: &Path, name: Option<&str>) -> Result<Record, ImportError> {
        let files = Packed::open(file, path)?;
        if files.has("oci-layout") && files.has("index.json") {
            return self.layout(files, path, name);
        }
        if files.has("manifest.json") {
            let (image, own) = docker::open(files, path, name)?;
            return self.bring(&image, &own);
        }
        if name.is_some() {
            return Err(ImportError::wrong(path, "it is no archive of images"));
        }
        let file = files.into_file();
        let (diff, size) = spool::digest(&file).map_err(ImportError::io("can't read", path))?;
        if size == 0 {
            return Err(ImportError::wrong(path, "it is empty"));
        }
        self.bring(&Made::of_root(file, diff, size, self.platform), &[])
    }

    fn layout(
        &self,
        files: impl Files,
        path: &Path,
        name: Option<&str>,
    ) -> Result<Record, ImportError> {
        let layout = Layout::open(files, path, name)?;
        let own = layout.names();
        self.bring(&layout, &own)
    }

    fn bring(&self, source: &impl Source, own: &[String]) -> Result<Record, ImportError> {
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let names = if self.names.is_empty() { &own } else { self.names };
        Ok(bring(self.images, source, names, self.platform)?)
    }
}
