//! All of an image's files as one read-only file system image, for machines that have a kernel of
//! their own.
//!
//! [`make`] makes of an image in the store one file that is an erofs, once, whoever asks for it and
//! however many at the same time. A guest mounts it as it is: `-t erofs -o ro`, on a disk, or on
//! memory that it shares with the host and with other guests (`-o dax`, by virtio-pmem). Nobody ever
//! writes to it; what a guest writes goes into a layer of its own above.
//!
//! - What is in it is what overlayfs would show of the image's layers, but for what an ordinary user's
//!   tree can't hold: owners, modes, times to the nanosecond, attributes, capabilities and devices are
//!   those of the image, whoever makes it. Attributes that no Linux guest could have are left out, and
//!   so are those that overlayfs takes for its own.
//! - The same layers are the same bytes, on every machine, whoever makes it: so it is known by the
//!   [chain](agentkernel_images::Chain) of the topmost one and by [`FORM`], and two images with the
//!   same layers have the same.
//! - It stays for as long as its image does, and goes with that. One of an older form stays too, so that
//!   what a machine's memory was saved with is still there.
//! - Where the file system can share blocks (xfs, btrfs), it shares them with the layers. Elsewhere it
//!   takes as much of the disk again as they do.
//! - While it is made memory is taken for what is known of each file (some 200 bytes), never for what
//!   files hold.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod attributes;
mod contents;
mod erofs;
mod error;
mod layout;
mod list;
mod opener;
mod stream;
mod tree;
mod write;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agentkernel_images::{Chain, Image, Images};

use contents::Contents;
pub use error::RootImageError;
use layout::Layout;
use tree::{Directory, Files};

/// What a guest's kernel calls the file system. It is a module of most distributions' kernels.
pub const FILE_SYSTEM: &str = "erofs";

/// What this version makes. Another one makes other bytes of the same image.
pub const FORM: &str = "1.erofs";

/// A root image in the store. It is there for as long as the image is held.
#[derive(Debug)]
pub struct RootImage {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl RootImage {
    /// Where it is. Its folder is closed to all but the caller, and the file can be read by whoever is
    /// given another way to it.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The same, open to be read.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its length, a multiple of 4096. It may have holes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The root image of an image of the store, if it was made already.
pub fn find(images: &Images, image: &Image) -> Result<Option<RootImage>, RootImageError> {
    let chain = image.record().top().ok_or(RootImageError::Empty)?;
    let path = images.root_file(chain, FORM);
    let read = |source| RootImageError::Read { path: path.clone(), source };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(read)?,
    };
    let bytes = file.metadata().map_err(read)?.len();
    Ok(Some(RootImage { path, file, bytes }))
}

/// The root image of an image of the store, which is made if it is not there.
///
/// If somebody else makes it this waits for that. When this is interrupted or fails, nothing is left
/// that is taken for whole, and what is left the next one replaces.
pub fn make(images: &Images, image: &Image) -> Result<RootImage, RootImageError> {
    loop {
        if let Some(found) = find(images, image)? {
            return Ok(found);
        }
        let chain = image.record().top().ok_or(RootImageError::Empty)?;
        let filling = images.fill()?;
        if let Some(draft) = filling.draft_root(chain, FORM)? {
            write_image(images, image, chain, &draft.file)?;
            draft.keep()?;
        }
    }
}

fn write_image(
    images: &Images,
    image: &Image,
    chain: &Chain,
    to: &File,
) -> Result<(), RootImageError> {
    let mut files = Files::new();
    let mut root = None::<Directory>;
    for (layer, number) in image.record().layers.iter().zip(0..) {
        let upper = list::read(&images.entries(&layer.chain), number, &mut files)?;
        root = Some(match root {
            None => upper.alone(),
            Some(mut root) => {
                root.cover(upper);
                root
            }
        });
    }
    let mut root = root.ok_or(RootImageError::Empty)?;
    let mut contents = Contents::open(image.layers())?;
    let layout = Layout::new(&mut root, &mut files, &mut contents)?;
    write::write(&root, &files, &mut contents, &layout, identity(chain), to)
}

/// The file system's UUID: of the layers, in the version that leaves all but the version to whoever
/// makes it.
fn identity(chain: &Chain) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(chain.hex().as_bytes().chunks(2)) {
        let digits = str::from_utf8(digits).unwrap_or_default();
        // A digest has nothing but digits.
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// Where a walk through a tree is.
#[derive(Debug, Default)]
struct Path(Vec<u8>);

impl Path {
    /// Goes on to a name, and says what leads back.
    fn enter(&mut self, name: &[u8]) -> usize {
        let above = self.0.len();
        if above > 0 {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
        above
    }

    fn leave(&mut self, above: usize) {
        self.0.truncate(above);
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}
