//! A source that has what tests put into it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use agentkernel_images::{Digest, Download, Filling, Images, Record};
use agentkernel_testkit::Scratch;
use agentkernel_unpack::{BringError, Part, Platform, Source, bring};
use serde_json::{Value, json};
use tar::{Builder, Header};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Default)]
pub struct Memory {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub top: Vec<u8>,
    pub kind: Option<String>,
    /// Whether it says of all layers that they are needless.
    pub has_no_layers: bool,
    /// What was asked for.
    pub asked: Mutex<Vec<Digest>>,
}

impl Memory {
    /// Keeps a blob, and says how a manifest names it.
    pub fn add(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({"mediaType": kind, "digest": digest.as_str(), "size": bytes.len()})
    }

    /// Keeps an image of these archives, and says how an index names its manifest.
    pub fn image(&mut self, archives: &[Vec<u8>], configuration: Value) -> Value {
        let diffs: Vec<_> = archives.iter().map(|bytes| Digest::of(bytes).to_string()).collect();
        let mut said = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diffs}});
        said.as_object_mut().unwrap().extend(configuration.as_object().unwrap().clone());
        let layers: Vec<_> = archives.iter().map(|bytes| self.add(LAYER, bytes)).collect();
        let configuration = self.add(CONFIGURATION, said.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": configuration, "layers": layers});
        self.top = manifest.to_string().into_bytes();
        self.add(MANIFEST, manifest.to_string().as_bytes())
    }

    pub fn of(archives: &[Vec<u8>]) -> Self {
        let mut memory = Self::default();
        memory.image(archives, json!({}));
        memory
    }

    pub fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Source for Memory {
    type Error = io::Error;

    fn top(&self) -> io::Result<(Vec<u8>, Option<String>)> {
        Ok((self.top.clone(), self.kind.clone()))
    }

    fn small(&self, part: &Part) -> io::Result<Vec<u8>> {
        self.asked.lock().unwrap().push(part.digest.clone());
        self.blobs.get(&part.digest).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn layer(
        &self,
        filling: &Filling,
        part: &Part,
        is_needless: &dyn Fn() -> bool,
        came: &(dyn Fn(u64) + Sync),
    ) -> io::Result<Option<File>> {
        if self.has_no_layers {
            return Ok(None);
        }
        let download = filling.download(&part.digest, is_needless).map_err(io::Error::other)?;
        let mut partial = match download {
            None => return Ok(None),
            Some(Download::Whole(file)) => return Ok(Some(file)),
            Some(Download::Partial(partial)) => partial,
        };
        let bytes = self.small(part)?;
        partial.file.set_len(0)?;
        partial.file.write_all(&bytes)?;
        came(bytes.len() as u64);
        let mut file = partial.complete().map_err(io::Error::other)?;
        file.rewind()?;
        Ok(Some(file))
    }
}

/// A store in a folder of its own.
pub struct Store {
    pub images: Images,
    scratch: Scratch,
}

impl Store {
    pub fn new() -> Self {
        let scratch = Scratch::public_in(&std::env::temp_dir()).unwrap();
        Self { images: Images::at(scratch.path().join("images")), scratch }
    }

    pub fn bring(&self, source: &impl Source, names: &[&str]) -> Result<Record, BringError> {
        self.bring_for("linux/amd64", source, names)
    }

    pub fn bring_for(
        &self,
        platform: &str,
        source: &impl Source,
        names: &[&str],
    ) -> Result<Record, BringError> {
        bring(&self.images, source, names, &platform.parse::<Platform>().unwrap())
    }

    /// A new folder that is none of the store's.
    pub fn folder_beside(&self, name: &str) -> PathBuf {
        self.scratch.folder(name).unwrap()
    }

    /// What is in one of the store's folders.
    pub fn folder(&self, name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.images.root().join(name)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// What is in the making, without the locks.
    pub fn drafts(&self) -> Vec<PathBuf> {
        let mut all = self.folder("work");
        all.retain(|path| path.is_dir());
        all
    }
}

/// An archive of files, with a link for each whose text begins with `->`.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        if let Some(target) = text.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}
