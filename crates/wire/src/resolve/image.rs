//! Which image a request comes to.

use std::path::{Path, PathBuf};

use agentkernel_core::{Capability, Image, Module, hex};
use sha2::{Digest, Sha256};

use super::{Caller, RequestError, canonical};
use crate::{BuildRequest, ImageRequest, Reference, images};

/// What an image is built from, in its folder.
const DOCKERFILE: &str = "Dockerfile";

/// An image, and how it came to be that.
pub(super) struct Settled {
    pub image: Image,
    /// Why, to follow "because"; `None` if it was asked for by its name.
    pub why: Option<String>,
    /// The folder that it is built from.
    pub build: Option<PathBuf>,
}

/// The image of a request, on the project in this folder if one is shown.
pub(super) fn settle(
    asked: Option<ImageRequest>,
    build: Option<BuildRequest>,
    project: Option<&Path>,
    caller: &Caller<'_>,
) -> Result<Settled, RequestError> {
    let named = |image| Ok(Settled { image, why: None, build: None });
    match (asked, build) {
        (Some(_), Some(BuildRequest::On(_))) => Err(RequestError::BuildAndImage),
        (None, Some(BuildRequest::On(folder))) => built(folder.unwrap_or_default()),
        (Some(ImageRequest::Host), _) => named(Image::Host),
        (Some(ImageRequest::Rootfs(path)), _) => named(Image::Rootfs(rootfs(path)?)),
        (Some(ImageRequest::Module(path)), _) => named(Image::Module(Module::File(module(path)?))),
        (Some(ImageRequest::Reference(name)), _) => named(match runs_modules(caller) {
            true => Image::Module(Module::Named(tagged(name))),
            false => Image::Reference(tagged(name)),
        }),
        (Some(ImageRequest::Auto), _) => Ok(fitting(true, project, caller)),
        (None, _) => Ok(fitting(false, project, caller)),
    }
}

/// Whether commands are modules, so that a name is a module's.
fn runs_modules(caller: &Caller<'_>) -> bool {
    let has = |capability| caller.capabilities.has(capability);
    has(Capability::ImageModule) && !has(Capability::ImageReference)
}

/// The image where nobody named one, and the only place that decides it: the machine's own
/// programs where the backend has them, unless `auto` was said; and with `auto` still those, where
/// it can't start an image by its name. Where commands are modules it is any of them: that says
/// enough of a pool's sandboxes, and is refused for all others.
fn fitting(auto: bool, project: Option<&Path>, caller: &Caller<'_>) -> Settled {
    let has = |capability| caller.capabilities.has(capability);
    let host = |why: &str| (Image::Host, why.to_owned());
    let (image, why) = if !auto && has(Capability::ImageHost) {
        host("the backend shows the machine's own programs")
    } else if runs_modules(caller) {
        (Image::Module(Module::Any), "the backend runs modules, and none was named".to_owned())
    } else if !has(Capability::ImageReference) {
        host("the backend starts no image by its name")
    } else {
        let (name, why) = images::choose(caller.program, project);
        (Image::Reference(name.into()), why)
    };
    Settled { image, why: Some(why), build: None }
}

fn rootfs(path: PathBuf) -> Result<PathBuf, RequestError> {
    let path = canonical("the image", path)?;
    match path.is_dir() {
        true => Ok(path),
        false => Err(RequestError::ImageNotDirectory(path)),
    }
}

fn module(path: PathBuf) -> Result<PathBuf, RequestError> {
    let path = canonical("the module", path)?;
    match path.is_file() {
        true => Ok(path),
        false => Err(RequestError::ModuleNotFile(path)),
    }
}

/// The name with the tag that engines fill in: without one they would fetch every tag there is, and
/// pools would not know that `python` and `python:latest` are the same.
fn tagged(name: String) -> String {
    match Reference::parse(&name) {
        Ok(Reference { tag: None, digest: None, .. }) => format!("{name}:latest"),
        _ => name,
    }
}

/// The image that is built from a folder. Its name depends on the folder alone, so that the engine
/// has the last one and its layers there when it is built again.
fn built(folder: PathBuf) -> Result<Settled, RequestError> {
    let folder = canonical("the folder to build", folder)?;
    if !folder.join(DOCKERFILE).is_file() {
        return Err(RequestError::NoDockerfile(folder));
    }
    Ok(Settled {
        image: Image::Reference(build_name(&folder)),
        why: Some(format!("it is built from {}", folder.display())),
        build: Some(folder),
    })
}

/// `localhost/` is no registry's that an engine would ask for it.
fn build_name(folder: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;

    let digest = Sha256::digest(folder.as_os_str().as_bytes());
    let short = hex(&digest[..8]);
    format!("localhost/agentkernel-build-{short}:latest")
}
