//! The disks of a machine: its image, which no machine writes to, and one of its own if it keeps what
//! is written.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::iter;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentkernel_core::{BootError, Spec};
use agentkernel_firecracker::KEPT;
use agentkernel_images::{Image, Images};
use agentkernel_root_image::RootImage;

use crate::error::failed;
use crate::parts;
use crate::plan::Disk;

/// What a disk holds at most that nobody has set a limit for. It takes only what is written.
const SIZE: u64 = 64 << 30;

/// What it is called in its folder.
const NAME: &str = "written.ext4";

#[derive(Debug)]
pub struct Disks {
    image: RootImage,
    own: Option<PathBuf>,
}

impl Disks {
    /// Those of a machine for `spec`, which keeps what is written in the folder `kept`, if in any.
    pub fn of(image: &Image, spec: &Spec, kept: Option<&Path>) -> Result<Self, BootError> {
        let root =
            Images::of_caller().map(|images| agentkernel_root_image::make(&images, image))?;
        let root = root.map_err(|error| BootError::Refused {
            why: format!("the image can't be made a micro-VM's root: {error}"),
            fix: error.hint(),
        })?;
        let size = spec.limits.disk.map_or(SIZE, |asked| asked.value.get());
        let own = kept.map(|folder| own(&folder.join(KEPT), size)).transpose()?;
        Ok(Self { image: root, own })
    }

    pub fn keeps(&self) -> bool {
        self.own.is_some()
    }

    /// In the order in which a machine's kernel finds them.
    pub fn all(&self) -> Vec<Disk> {
        let image = Disk { path: self.image.path().to_owned(), read_only: true };
        let own = self.own.iter().map(|path| Disk { path: path.clone(), read_only: false });
        iter::once(image).chain(own).collect()
    }
}

/// The disk in `folder`, made if it is not there yet.
fn own(folder: &Path, size: u64) -> Result<PathBuf, BootError> {
    let path = folder.join(NAME);
    if path.exists() {
        return Ok(path);
    }
    let what = "can't make a disk for what is written";
    let made = DirBuilder::new().mode(0o700).recursive(true).create(folder);
    made.map_err(|source| failed(what, source))?;
    let draft = path.with_extension("part");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft);
    file.and_then(|file| file.set_len(size)).map_err(|source| failed(what, source))?;
    let made = Command::new(parts::mke2fs()?)
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"])
        .arg(&draft)
        .stdin(Stdio::null())
        .output();
    let made = made.map_err(|source| failed(what, source))?;
    if !made.status.success() {
        let words = String::from_utf8_lossy(&made.stderr);
        return Err(failed(what, io::Error::other(format!("mke2fs: {}", words.trim()))));
    }
    std::fs::rename(&draft, &path).map_err(|source| failed(what, source))?;
    Ok(path)
}
