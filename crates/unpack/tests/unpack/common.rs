//! Archives that tests make, the trees that they become, and who unpacks them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use agentkernel_images::Digest;
use agentkernel_testkit::Scratch;
use agentkernel_unpack::{Bounds, Entry, UnpackError, read_entries, unpack_layer};
use tar::{Builder, EntryType, Header};

pub use crate::everyone::{everyone, is_root};

/// An archive in the making.
pub struct Archive(Builder<Vec<u8>>);

impl Archive {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// A header as tests like it: of root's, from the second 1000.
    pub fn header(kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_size(0);
        header
    }

    /// Any member, with its path as it is.
    pub fn member(mut self, mut header: Header, path: &str, data: &[u8]) -> Self {
        let name = &mut header.as_old_mut().name;
        assert!(path.len() <= name.len(), "{path}");
        name.fill(0);
        name[..path.len()].copy_from_slice(path.as_bytes());
        if !data.is_empty() {
            header.set_size(data.len() as u64);
        }
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.member(Self::header(EntryType::Directory, mode), path, b"")
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        self.member(Self::header(EntryType::Regular, 0o644), path, text.as_bytes())
    }

    pub fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0o777);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.member(header, path, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    pub fn device(self, kind: EntryType, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, 0o666);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.member(header, path, b"")
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Layers that were unpacked on each other.
pub struct Layers {
    pub scratch: Scratch,
    pub roots: Vec<PathBuf>,
    pub bounds: Bounds,
}

impl Layers {
    pub fn new() -> Self {
        let scratch = Scratch::public_in(&std::env::temp_dir()).unwrap();
        Self { scratch, roots: Vec::new(), bounds: Bounds::default() }
    }

    /// Unpacks one more on top.
    pub fn add(&mut self, packed: &[u8], diff: &Digest) -> Result<u64, UnpackError> {
        let folder = self.scratch.path().join(self.roots.len().to_string());
        let (root, entries) = (folder.join("root"), folder.join("entries"));
        fs::create_dir_all(&root).unwrap();
        let unpacked = unpack_layer(packed, diff, (&root, &entries), &self.roots, &mut self.bounds);
        self.roots.push(root);
        unpacked
    }

    /// The path of something in the topmost tree.
    pub fn at(&self, path: &str) -> PathBuf {
        self.roots.last().unwrap().join(path)
    }

    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// The list of the topmost layer.
    pub fn entries(&self) -> Vec<Entry> {
        let path = self.roots.last().unwrap().with_file_name("entries");
        read_entries(&path).unwrap().collect::<io::Result<_>>().unwrap()
    }

    /// The last line of a path in it.
    pub fn entry(&self, path: &str) -> Entry {
        let found = self.entries().into_iter().rfind(|entry| entry.path.0 == path.as_bytes());
        found.unwrap_or_else(|| panic!("{path} is not listed"))
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // What is closed to an ordinary user is opened to be removed.
        if !is_root() {
            let opened = Command::new("chmod").args(["-R", "u+rwx"]).args(&self.roots).status();
            assert!(opened.is_ok());
        }
    }
}

/// Unpacks archives on each other.
pub fn unpack(archives: impl IntoIterator<Item = Archive>) -> Layers {
    let mut layers = Layers::new();
    for archive in archives {
        let bytes = archive.bytes();
        layers.add(&bytes, &Digest::of(&bytes)).unwrap();
    }
    layers
}

/// Unpacks an archive that can't be, and says why.
pub fn refused(archive: Archive) -> String {
    refused_bytes(&archive.bytes())
}

pub fn refused_bytes(bytes: &[u8]) -> String {
    let mut layers = Layers::new();
    layers.add(bytes, &Digest::of(bytes)).expect_err("it was unpacked").to_string()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An extended attribute, if it is there.
pub fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}
