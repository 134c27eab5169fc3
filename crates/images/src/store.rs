//! The store's folder, and what is looked up in it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use crate::{Chain, Digest, Image, ImagesError, Record, names};

/// The store of one user.
#[derive(Debug, Clone)]
pub struct Images {
    root: PathBuf,
}

/// An image with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub record: Record,
    /// In full, in order.
    pub names: Vec<String>,
    /// What it holds: its layers' files, and what was made of them, in bytes.
    pub bytes: u64,
    /// What of that no other image has.
    pub own_bytes: u64,
}

/// The fewest digits that stand for a digest.
const SHORTEST_START: usize = 4;

impl Images {
    /// The store of the calling process's user, by the XDG variables. Does no I/O.
    pub fn of_caller() -> Result<Self, ImagesError> {
        Self::find(|name| env::var_os(name))
    }

    /// The store that these variables lead to. A relative path does not count, as the XDG Base
    /// Directory Specification demands. Does no I/O.
    pub fn find(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, ImagesError> {
        let absolute = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = absolute("XDG_DATA_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/share")))
            .ok_or(ImagesError::NoHome)?;
        Ok(Self::at(data.join("agentkernel/images")))
    }

    /// The store in this folder, which need not be there yet.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image of this name or digest, held; none if it is not there.
    pub fn open(&self, name: &str) -> Result<Option<Image>, ImagesError> {
        match self.resolve(name)? {
            Some(manifest) => Image::open(self, &manifest),
            None => Ok(None),
        }
    }

    /// The manifest that a name stands for, which has a digest of its own or was kept under just
    /// this one. What has neither tag nor digest is `latest`.
    pub fn resolve(&self, name: &str) -> Result<Option<Digest>, ImagesError> {
        let (full, digest) = names::parse(name)?;
        // The digest may be that of an index, which stands for one of several.
        match digest.filter(|digest| self.image_file(digest).exists()) {
            Some(digest) => Ok(Some(digest)),
            None => self.read_name(&full),
        }
    }

    /// The manifest of the image that a person means: by a name, or the start of a digest.
    pub fn look_up(&self, asked: &str) -> Result<Digest, ImagesError> {
        let by_name = self.resolve(asked);
        if let Ok(Some(digest)) = by_name {
            return Ok(digest);
        }
        let start = asked.strip_prefix("sha256:").unwrap_or(asked);
        let is_start =
            start.len() >= SHORTEST_START && start.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_start {
            return Err(by_name.err().unwrap_or_else(|| ImagesError::NotFound(asked.into())));
        }
        let means = |record: &Record| {
            [&record.manifest, &record.configuration].iter().any(|one| one.hex().starts_with(start))
        };
        let found: Vec<Record> = self.records()?.into_iter().filter(means).collect();
        match found.as_slice() {
            [] => Err(ImagesError::NotFound(asked.into())),
            [one] => Ok(one.manifest.clone()),
            many => Err(ImagesError::Ambiguous {
                asked: asked.into(),
                found: many.iter().map(|record| record.manifest.to_string()).collect(),
            }),
        }
    }

    /// All that are there, the newest first.
    pub fn list(&self) -> Result<Vec<Listed>, ImagesError> {
        let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for (name, manifest) in self.names()? {
            names.entry(manifest).or_default().push(name);
        }
        let records = self.records()?;
        let mut users: BTreeMap<&Chain, usize> = BTreeMap::new();
        for layer in records.iter().flat_map(|record| &record.layers) {
            *users.entry(&layer.chain).or_default() += 1;
        }
        let mut tops: BTreeMap<&Chain, usize> = BTreeMap::new();
        for top in records.iter().filter_map(Record::top) {
            *tops.entry(top).or_default() += 1;
        }
        let roots = self.root_bytes()?;
        let sizes = |record: &Record| {
            let own = record.layers.iter().filter(|layer| users[&layer.chain] == 1);
            let own: u64 = own.map(|layer| layer.bytes).sum();
            let root = record.top().and_then(|top| roots.get(top.hex())).copied().unwrap_or(0);
            let is_only = record.top().is_some_and(|top| tops[top] == 1);
            (record.bytes() + root, own + if is_only { root } else { 0 })
        };
        let sizes: Vec<(u64, u64)> = records.iter().map(sizes).collect();
        let listed = records.into_iter().zip(sizes).map(|(record, (bytes, own_bytes))| Listed {
            names: names.remove(&record.manifest).unwrap_or_default(),
            record,
            bytes,
            own_bytes,
        });
        let mut all: Vec<Listed> = listed.collect();
        all.sort_by(|a, b| (b.record.kept, &b.names).cmp(&(a.record.kept, &a.names)));
        Ok(all)
    }

    /// Gives the image of the manifest another name. Whatever had it loses it.
    pub fn tag(&self, manifest: &Digest, name: &str) -> Result<String, ImagesError> {
        // Nothing clears it away meanwhile.
        let _held = Image::open(self, manifest)?
            .ok_or_else(|| ImagesError::NotFound(manifest.to_string()))?;
        let (full, digest) = names::parse(name)?;
        if digest.is_some() {
            let why = "a digest is no name to be given".into();
            return Err(ImagesError::Name(name.into(), why));
        }
        self.write_name(&full, manifest)?;
        Ok(full)
    }

    /// A manifest or a configuration, as it came.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ImagesError> {
        let path = self.folder("blobs").join(digest.hex());
        let bytes = fs::read(&path).map_err(ImagesError::io("can't read", &path))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(ImagesError::Damaged { path, why: "its digest is another one".into() }),
        }
    }

    /// The tree of a layer.
    pub fn layer(&self, chain: &Chain) -> PathBuf {
        self.folder("layers").join(chain.hex()).join("root")
    }

    /// What is in a layer; see [`Draft::entries`](crate::Draft::entries).
    pub fn entries(&self, chain: &Chain) -> PathBuf {
        self.folder("layers").join(chain.hex()).join("entries")
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn image_file(&self, manifest: &Digest) -> PathBuf {
        self.folder("images").join(manifest.hex())
    }

    /// Makes the store's folders, for nobody else.
    pub(crate) fn prepare(&self) -> Result<(), ImagesError> {
        for name in ["names", "images", "blobs", "layers", "roots", "downloads", "work"] {
            let path = self.folder(name);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(ImagesError::io("can't make the folder", &path))?;
        }
        Ok(())
    }

    /// Writes a file as a whole: nobody sees a part of it.
    pub(crate) fn write(&self, path: &Path, content: &[u8]) -> Result<(), ImagesError> {
        let draft = self.work_path();
        let write = || {
            let mut file = File::create_new(&draft)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&draft, path)
        };
        write().map_err(|source| {
            // It may never have been there.
            let _ = fs::remove_file(&draft);
            ImagesError::io("can't write", path)(source)
        })
    }

    /// A path in `work` that nobody else has.
    pub(crate) fn work_path(&self) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // A process that was killed may have left something, and another may have its number now.
        let began = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        self.folder("work").join(format!("{}-{number}-{began}", process::id()))
    }

    /// The records of all images.
    pub(crate) fn records(&self) -> Result<Vec<Record>, ImagesError> {
        let names = entries(&self.folder("images"))?;
        let digests = names.iter().filter_map(|name| format!("sha256:{name}").parse().ok());
        let mut records = Vec::new();
        for digest in digests {
            // One that is removed meanwhile was there when this began, or not.
            records.extend(Image::open(self, &digest)?.map(Image::into_record));
        }
        Ok(records)
    }
}

/// The names in a folder that need not be there.
pub(crate) fn entries(folder: &Path) -> Result<Vec<String>, ImagesError> {
    let failed = || ImagesError::io("can't read the folder", folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed())?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
