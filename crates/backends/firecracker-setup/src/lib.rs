//! Puts a kernel for Firecracker's micro-VMs where it belongs, and says what else machines need.
//!
//! It takes what is on this machine, or what it is given, and nothing from a network: whoever has
//! fetched a kernel has also chosen whom to trust for it.
//!
//! - [`source`]: where a kernel is, and what is beside it.
//! - [`deb`], [`ar`], [`packing`]: a package of one, unpacked.
//! - [`image`]: its own file, as Firecracker starts it.
//! - [`modules`], [`config`]: what of it machines need, and whether it has that.
//! - [`draft`]: all of it put into its place at once.
//! - [`report`]: what was done, and what is missing.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod ar;
mod config;
mod deb;
mod draft;
mod error;
mod image;
mod modules;
mod packing;
mod report;
#[cfg(test)]
mod scene;
mod source;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use agentkernel_firecracker::machine::{NETWORK_ORDER, ORDER};

use config::Config;
use draft::Draft;
use image::Image;
use modules::{Chosen, Tree};
use source::Found;

pub use error::SetupError;
pub use report::{Kernel, Report, Written};

/// What somebody wants.
#[derive(Debug, Default)]
pub struct Request {
    /// A kernel's file, package or folder; the machine's own ones if none is named.
    pub kernel: Option<PathBuf>,
    /// Make it anew.
    pub force: bool,
}

/// Makes what is missing, as far as that can be made here.
pub fn setup(request: &Request) -> Result<Report, SetupError> {
    let folder = agentkernel_firecracker_api::folder().map_err(SetupError::Place)?;
    let kernel = put(request, &folder.join("kernel"), Path::new("/"))?;
    Ok(Report::new(kernel))
}

/// Puts a kernel into `place`; that of a machine with the root `root` if none is named.
fn put(request: &Request, place: &Path, root: &Path) -> Result<Kernel, SetupError> {
    if !request.force
        && let Some(kept) = kept(place)?
    {
        return Ok(kept);
    }
    let mut draft = Draft::begin(place)?;
    // Somebody else may just have made it.
    if !request.force
        && let Some(kept) = kept(place)?
    {
        return Ok(kept);
    }
    if let Some(path) = &request.kernel {
        let (found, is_verified) = source::named(path, &draft.tree)?;
        let modules = check(&found)?;
        return made(draft, place, path, found, modules, is_verified);
    }
    let mut looked = Vec::new();
    for found in source::installed(root) {
        match check(&found) {
            Ok(modules) => {
                let path = found.image.clone();
                return made(draft, place, &path, found, modules, false);
            }
            Err(why) => looked.push(why.to_string()),
        }
    }
    for path in source::packages(&root.join(source::ARCHIVES.trim_start_matches('/'))) {
        let taken = source::named(&path, &draft.tree)
            .and_then(|(found, is_verified)| Ok((check(&found)?, found, is_verified)));
        match taken {
            Ok((modules, found, is_verified)) => {
                return made(draft, place, &path, found, modules, is_verified);
            }
            Err(full @ SetupError::Write { .. }) => return Err(full),
            Err(why) => looked.push(why.to_string()),
        }
        drop(draft);
        draft = Draft::begin(place)?;
    }
    Ok(Kernel::Missing { looked })
}

/// The kernel that is there.
fn kept(place: &Path) -> Result<Option<Kernel>, SetupError> {
    if place.symlink_metadata().is_err() {
        return Ok(None);
    }
    // By hand it may also be a file alone.
    let path = if place.is_dir() { place.join("vmlinux") } else { place.to_owned() };
    let file = File::open(&path).map_err(|_| SetupError::InTheWay(place.to_owned()))?;
    let version = Image::Unpacked.version(&file).map_err(SetupError::read(&path))?;
    let files = draft::look(place)?;
    Ok(Some(Kernel::Kept { path: place.to_owned(), version, files }))
}

/// The modules that machines need of a kernel, if it has all.
fn check(found: &Found) -> Result<(Chosen, Vec<String>), SetupError> {
    // One that can't be read is told from one that lacks something.
    File::open(&found.image).map_err(SetupError::read(&found.image))?;
    let tree = found.modules.as_deref().map(Tree::of).transpose()?.unwrap_or_default();
    let text = found.config.as_ref().map(|path| {
        fs::read_to_string(path).map(|text| Config::of(&text)).map_err(SetupError::read(path))
    });
    let config = text.transpose()?;
    let modules = tree.choose(&found.version, config.as_ref())?;
    let mut notes = config.as_ref().map(Config::notes).unwrap_or_default();
    if config.is_none() {
        notes.push(match tree.knows_builtin() {
            true => "its configuration is not beside it, and was not checked".into(),
            false => "neither its configuration nor a list of what is in it is beside it, so \
                      nothing of that was checked"
                .into(),
        });
    }
    if !modules.has_network {
        notes.push("it has no tun device (CONFIG_TUN): --network full will be refused".into());
    }
    Ok((modules, notes))
}

fn made(
    mut draft: Draft,
    place: &Path,
    from: &Path,
    found: Found,
    (modules, notes): (Chosen, Vec<String>),
    is_verified: bool,
) -> Result<Kernel, SetupError> {
    let file = File::open(&found.image).map_err(SetupError::read(&found.image))?;
    let image = Image::of(&file).map_err(|why| SetupError::no_kernel(&found.image, why))?;
    let version = image.version(&file).map_err(SetupError::read(&found.image))?;
    if version.as_ref().is_some_and(|version| *version != found.version) {
        let why = format!("it is not of the version {}", found.version);
        return Err(SetupError::damaged(&found.image, why));
    }
    image.unpack(&found.image, &draft.folder.join("vmlinux"))?;
    draft.note("vmlinux")?;
    let Chosen { always, network, .. } = modules;
    // Where there are any, the first list is there.
    let lists = [(ORDER, &always, network.is_empty()), (NETWORK_ORDER, &network, true)];
    for (order, modules, may_lack) in lists {
        if modules.is_empty() && may_lack {
            continue;
        }
        let text: String = modules.iter().map(|module| format!("{}\n", module.file)).collect();
        draft.write(&format!("modules/{order}"), text.as_bytes())?;
        for module in modules {
            draft.write(&format!("modules/{}", module.file), &module.bytes)?;
        }
    }
    Ok(Kernel::Made {
        path: place.to_owned(),
        version: found.version,
        from: from.to_owned(),
        is_verified,
        notes,
        files: draft.finish()?,
    })
}
