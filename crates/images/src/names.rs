//! Names of images, and what they stand for.

use std::fs;
use std::io;

use agentkernel_core::Reference;

use crate::store::entries;
use crate::{Digest, Images, ImagesError};

/// A name in full, as it is kept, and its digest if it has one.
pub fn parse(name: &str) -> Result<(String, Option<Digest>), ImagesError> {
    let wrong = |why| ImagesError::Name(name.into(), why);
    let reference = Reference::parse(name).map_err(wrong)?;
    let digest = reference.digest.map(|text| text.parse::<Digest>().map_err(wrong)).transpose()?;
    Ok((reference.in_full(), digest))
}

impl Images {
    /// What a name in full stands for.
    pub(crate) fn read_name(&self, full: &str) -> Result<Option<Digest>, ImagesError> {
        let path = self.name_file(full);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImagesError::io("can't read", &path)(error)),
            Ok(text) => match split(&text) {
                Some((name, manifest)) if name == full => Ok(Some(manifest)),
                _ => Err(ImagesError::Damaged { path, why: "it is no name's file".into() }),
            },
        }
    }

    pub(crate) fn write_name(&self, full: &str, manifest: &Digest) -> Result<(), ImagesError> {
        self.write(&self.name_file(full), format!("{full}\n{manifest}\n").as_bytes())
    }

    pub(crate) fn remove_name(&self, full: &str) -> Result<(), ImagesError> {
        let path = self.name_file(full);
        fs::remove_file(&path).map_err(ImagesError::io("can't remove", &path))
    }

    /// All names, with what they stand for.
    pub(crate) fn names(&self) -> Result<Vec<(String, Digest)>, ImagesError> {
        let folder = self.folder("names");
        let mut names = Vec::new();
        for entry in entries(&folder)? {
            // What is removed meanwhile is no name any more, and what is damaged stands for nothing.
            let text = fs::read_to_string(folder.join(entry)).unwrap_or_default();
            names.extend(split(&text).map(|(name, manifest)| (name.to_owned(), manifest)));
        }
        names.sort();
        Ok(names)
    }

    fn name_file(&self, full: &str) -> std::path::PathBuf {
        self.folder("names").join(Digest::of(full.as_bytes()).hex())
    }
}

fn split(text: &str) -> Option<(&str, Digest)> {
    let (name, manifest) = text.strip_suffix('\n')?.split_once('\n')?;
    Some((name, manifest.parse().ok()?))
}
