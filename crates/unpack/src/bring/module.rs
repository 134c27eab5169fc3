//! Images that are modules for WebAssembly, in each of the forms that they have in registries.
//!
//! - The Wasm OCI artifact layout of the CNCF's TAG Runtime: a configuration
//!   `application/vnd.wasm.config.v0+json` and one layer `application/wasm`, which is the module.
//! - The same in other words, of tools that were there before: a configuration
//!   `application/vnd.wasm.config.v1+json` or that of an image, and one layer of a kind that ends in
//!   `+wasm`.
//! - An image like others in which the module is a file: the program of its commands, or `plugin.wasm`
//!   (<https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md>).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use agentkernel_images::{Chain, Images, Layer};

use super::{BringError, Said};
use crate::entries::{Kind, Writer};
use crate::manifest::{Configuration, Manifest, Runtime};
use crate::tree::Stacked;
use crate::{Entry, Part, Platform, UnpackError};

/// What the configuration of an artifact is called that is a module, up to its version.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.wasm.config.", "application/vnd.module.wasm.config."];

/// What is said in an image's manifest if its program is a module.
const VARIANT: (&str, &str) = ("module.wasm.image/variant", "compat");

/// What the module is called in an image that names no program.
const PLUGIN: &str = "plugin.wasm";

/// What it is called in the tree of a layer that has nothing else.
const FILE: &str = "module.wasm";

/// How every module begins, and every component.
const MAGIC: [u8; 4] = *b"\0asm";

/// The most that a module may have, in bytes: nobody would compile more.
const MOST_BYTES: u64 = 256 << 20;

fn wrong(why: impl Into<String>) -> BringError {
    BringError::Module(why.into())
}

/// Whether a layer is a module as it is.
pub(super) fn is_one(layer: &Part) -> bool {
    layer.kind == "application/wasm" || layer.kind.ends_with("+wasm")
}

/// The layer of an artifact that is a module; none of an image.
pub(super) fn layer(manifest: &Manifest) -> Result<Option<&Part>, BringError> {
    let configuration = &manifest.configuration.kind;
    let is_said = CONFIGURATIONS.iter().any(|kind| configuration.starts_with(kind));
    match manifest.layers.as_slice() {
        layers if !is_said && !layers.iter().any(is_one) => Ok(None),
        [layer] if is_one(layer) => check_size(layer.size).map(|()| Some(layer)),
        [layer] => Err(wrong(format!(
            "its layer is of the kind {:?}, and not application/wasm",
            layer.kind
        ))),
        layers => Err(wrong(format!("it has {} layers, and not one", layers.len()))),
    }
}

fn check_size(bytes: u64) -> Result<(), BringError> {
    match bytes > MOST_BYTES {
        true => Err(wrong(format!("it has more than {} MiB", MOST_BYTES >> 20))),
        false => Ok(()),
    }
}

/// What an artifact says of itself. That may be nothing, and need not be what is said of images.
pub(super) fn said(configuration: &[u8], layer: &Part) -> Said {
    let said: Configuration = serde_json::from_slice(configuration).unwrap_or_default();
    let platform = if said.platform.is_wasm() { said.platform } else { Platform::wasm() };
    let (chain, diff) = (Chain::of_module(&layer.digest), layer.digest.clone());
    Said {
        configuration: Configuration {
            platform,
            created: said.created,
            ..Configuration::default()
        },
        layers: vec![Layer { chain, diff, bytes: 0 }],
        module: Some(FILE.into()),
    }
}

/// Where the module is in an image, if it says that it is one, or if `asked` for one it could be.
pub(super) fn path(said: &Configuration, manifest: &Manifest, asked: &Platform) -> Option<String> {
    let (key, variant) = VARIANT;
    let program = said.program();
    let is_one = said.platform.is_wasm()
        || manifest.annotations.get(key).is_some_and(|said| said == variant)
        || program.map_or(asked.is_wasm(), |program| program.ends_with(".wasm"));
    if !is_one {
        return None;
    }
    let start = said.config.as_ref().and_then(|config| config.working_dir.as_deref());
    Some(match program {
        Some(program) if program.starts_with('/') => program.into(),
        Some(program) => format!("{}/{program}", start.unwrap_or_default()),
        None => PLUGIN.into(),
    })
}

/// The same with the program as its entrypoint, so that what else there is are arguments.
pub(super) fn with_entrypoint(mut said: Runtime) -> Runtime {
    if let (None | Some([]), Some(command)) = (said.entrypoint.as_deref(), &mut said.cmd) {
        said.entrypoint = Some(command.drain(..command.len().min(1)).collect());
    }
    said
}

/// Makes the tree of a layer that is a module, and its list. Says how long it is, in bytes.
pub(super) fn keep(
    mut layer: impl Read,
    (root, entries): (&Path, &Path),
) -> Result<u64, UnpackError> {
    let mut write = || io::copy(&mut layer, &mut File::create_new(root.join(FILE))?);
    let size = write().map_err(|source| UnpackError::Write { path: FILE.into(), source })?;
    let entry = Entry { mode: 0o644, size, ..Entry::new(FILE.as_bytes(), Kind::File) };
    let list = || {
        let mut list = Writer::create(entries)?;
        list.write(&entry)?;
        list.finish()
    };
    list().map_err(UnpackError::Entries)?;
    Ok(size)
}

/// Finds the module at a path in an image of these trees, and makes sure that it is one. Says where it
/// is, below the store's layers: links that lead to it count no more from then on.
pub(super) fn find(images: &Images, trees: &[PathBuf], path: &str) -> Result<PathBuf, BringError> {
    let shown = path.trim_start_matches('/');
    let unread = |error: io::Error| wrong(format!("its /{shown} can't be read: {error}"));
    let found = Stacked::open(trees).and_then(|trees| trees.open_file(path.as_bytes()));
    let Some(mut file) = found.map_err(unread)? else {
        return Err(wrong(format!("it has no file /{shown}")));
    };
    check_size(file.metadata().map_err(unread)?.len())?;
    let mut begin = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(unread)?;
    if begin != MAGIC {
        return Err(wrong(format!("its /{shown} does not begin as WebAssembly does")));
    }
    let file = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(unread)?;
    let layers = images.root().join("layers").canonicalize().map_err(unread)?;
    let below = file.strip_prefix(layers).map_err(|error| unread(io::Error::other(error)))?;
    Ok(below.into())
}
