//! What of the host a sandbox sees, as users write it: images, volumes and the project.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use agentkernel_core::Access;
use serde::{Deserialize, Deserializer};

use crate::Reference;
use crate::value::{self, ValueError, Written, unexpected};

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRequest {
    /// `host`: the machine's own programs.
    Host,
    /// `auto`: the image that fits the command, or else the project.
    Auto,
    /// `rootfs:DIR`: a directory that holds a root file system.
    Rootfs(PathBuf),
    /// `module:FILE`, or what has a module's [name](is_module_name): a WebAssembly module.
    Module(PathBuf),
    /// Every other word: the name of an image, which is a [`Reference`].
    Reference(String),
}

impl Written for ImageRequest {
    const EXPECTED: &'static str = "\"host\", \"auto\", rootfs:DIR, a module's file such as app.wasm \
                                    or the name of an image such as python:3.13-slim";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let bytes = text.as_bytes();
        let after = |prefix: &[u8]| bytes.strip_prefix(prefix).map(OsStr::from_bytes);
        match (bytes, after(b"rootfs:"), after(b"module:")) {
            (b"" | b"rootfs:" | b"module:", ..) => Err(unexpected::<Self>(text)),
            (b"host", ..) => Ok(Self::Host),
            (b"auto", ..) => Ok(Self::Auto),
            (_, Some(dir), _) => Ok(Self::Rootfs(dir.into())),
            (_, _, Some(file)) => Ok(Self::Module(file.into())),
            _ if is_module_name(text) => Ok(Self::Module(text.into())),
            ([b'.' | b'/' | b'~', ..], ..) => Err(ValueError(format!(
                "{} is a path: write rootfs:DIR for a directory that holds a root file system, or \
                 module:FILE for a WebAssembly module",
                shown(text)
            ))),
            _ => reference(text),
        }
    }
}

/// Whether a file of this name is a WebAssembly module by custom, in binary form or as text.
pub fn is_module_name(name: &OsStr) -> bool {
    [".wasm", ".wat"].iter().any(|end| name.as_bytes().ends_with(end.as_bytes()))
}

/// Reads the name of an image.
fn reference(text: &OsStr) -> Result<ImageRequest, ValueError> {
    let why = match text.to_str().map(Reference::parse) {
        Some(Ok(_)) => return Ok(ImageRequest::Reference(text.to_string_lossy().into_owned())),
        Some(Err(why)) => why,
        None => "it is not UTF-8".into(),
    };
    let expected = ImageRequest::EXPECTED;
    Err(ValueError(format!("{} is not {expected}: {why}", shown(text))))
}

/// A value as an error shows it, which may have been endless.
pub(crate) fn shown(text: &OsStr) -> String {
    const MOST: usize = 80;
    let text = text.to_string_lossy();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// An image that is built from a folder's Dockerfile: `DIR`, or `true` for the default, or `false`
/// for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildRequest {
    /// None, whatever a file says.
    Off,
    /// `None` is the project's folder, or else the one that the request is anchored in.
    On(Option<PathBuf>),
}

impl Written for BuildRequest {
    const EXPECTED: &'static str = "DIR, a folder with a Dockerfile, or true or false";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        match text.as_bytes() {
            b"" => Err(unexpected::<Self>(text)),
            b"true" => Ok(Self::On(None)),
            b"false" => Ok(Self::Off),
            _ => Ok(Self::On(Some(text.into()))),
        }
    }
}

/// A mount: `SRC:DST[:ro|rw|cow]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// May be relative until the request is anchored.
    pub source: PathBuf,
    /// Absolute, without `.` and `..`, and not the root.
    pub target: PathBuf,
    /// Read-only unless it is said: what is run here is not trusted.
    pub access: Access,
}

impl Written for Volume {
    const EXPECTED: &'static str = "SRC:DST or SRC:DST:ro|rw|cow, of paths without a colon";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let mut parts = text.as_bytes().split(|b| *b == b':').map(OsStr::from_bytes);
        let (source, target) = match (parts.next(), parts.next()) {
            (Some(source), Some(target)) if !source.is_empty() && !target.is_empty() => {
                (source, target)
            }
            _ => return Err(unexpected::<Self>(text)),
        };
        let access = match (parts.next(), parts.next()) {
            (None, _) => Access::ReadOnly,
            (Some(word), None) => Access::read(word)?,
            _ => return Err(unexpected::<Self>(text)),
        };
        Ok(Self { source: source.into(), target: absolute(target)?, access })
    }
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        value::one(deserializer)
    }
}

/// The project's folder inside the sandbox, at its own path: `[DIR][:cow|ro|rw]`, or `true` for
/// the default, or `false` for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectRequest {
    /// Not at all, whatever a file says.
    Off,
    /// `None` is the directory that the request is anchored in, and the profile's own access.
    On { directory: Option<PathBuf>, access: Option<Access> },
}

impl ProjectRequest {
    /// The project as a bare `--project` asks for it.
    pub const DEFAULT: Self = Self::On { directory: None, access: None };
}

impl Written for ProjectRequest {
    const EXPECTED: &'static str =
        "DIR, DIR:cow|ro|rw or :cow|ro|rw, of a directory without a colon, or true or false";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        match text.as_bytes() {
            b"" => return Err(unexpected::<Self>(text)),
            b"true" => return Ok(Self::DEFAULT),
            b"false" => return Ok(Self::Off),
            _ => {}
        }
        let mut parts = text.as_bytes().split(|b| *b == b':').map(OsStr::from_bytes);
        let directory = parts.next().filter(|part| !part.is_empty());
        let access = parts.next().map(Access::read).transpose()?;
        if parts.next().is_some() {
            return Err(unexpected::<Self>(text));
        }
        Ok(Self::On { directory: directory.map(PathBuf::from), access })
    }
}

/// `text` as a path in the sandbox: absolute, and without the parts that mean nothing or lead up.
pub(crate) fn absolute(text: &OsStr) -> Result<PathBuf, ValueError> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(ValueError(format!(
            "{text:?} is not absolute, as a path in the sandbox must be"
        )));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(ValueError(format!("{text:?} holds \"..\"")));
    }
    if text.as_bytes().contains(&0) {
        return Err(ValueError(format!("{text:?} holds a NUL")));
    }
    // Collecting drops doubled and trailing slashes and inner dots.
    Ok(path.components().collect())
}

/// A path in the sandbox.
impl Written for PathBuf {
    const EXPECTED: &'static str = "an absolute path in the sandbox";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        absolute(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(text: &str) -> Result<Volume, ValueError> {
        Volume::read(OsStr::new(text))
    }

    #[test]
    fn a_volume_is_read_only_unless_said() {
        for (text, access) in [
            ("a:/b", Access::ReadOnly),
            ("a:/b:ro", Access::ReadOnly),
            ("a:/b:rw", Access::ReadWrite),
            ("a:/b:cow", Access::CopyOnWrite),
        ] {
            let taken = Volume { source: "a".into(), target: "/b".into(), access };
            assert_eq!(volume(text), Ok(taken), "{text}");
        }
    }

    #[test]
    fn a_target_is_absolute_and_plain() {
        assert_eq!(volume("a://b/./c/").unwrap().target.as_os_str(), "/b/c");
        for text in ["a", "a:", ":/b", "a:b", "a:/b/../c", "a:/b:x", "a:/b:ro:rw", "a:/b:", "a:\0"]
        {
            assert!(volume(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn paths_that_are_not_utf8_are_kept() {
        let text = OsStr::from_bytes(b"/s\xff:/t\xfe:rw");
        let volume = Volume::read(text).unwrap();
        assert_eq!(volume.source.as_os_str().as_bytes(), b"/s\xff");
        assert_eq!(volume.target.as_os_str().as_bytes(), b"/t\xfe");
    }

    #[test]
    fn a_project_may_name_a_directory_an_access_both_or_neither() {
        let on = |directory: Option<&str>, access| ProjectRequest::On {
            directory: directory.map(PathBuf::from),
            access,
        };
        for (text, project) in [
            ("true", on(None, None)),
            ("false", ProjectRequest::Off),
            (".", on(Some("."), None)),
            ("src:ro", on(Some("src"), Some(Access::ReadOnly))),
            (":rw", on(None, Some(Access::ReadWrite))),
        ] {
            assert_eq!(ProjectRequest::read(OsStr::new(text)), Ok(project), "{text}");
        }
        for text in ["", "a:b", "a:ro:rw", ":"] {
            assert!(ProjectRequest::read(OsStr::new(text)).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_build_may_name_its_folder() {
        for (text, build) in [
            ("true", BuildRequest::On(None)),
            ("false", BuildRequest::Off),
            ("./true", BuildRequest::On(Some("./true".into()))),
            ("a:b", BuildRequest::On(Some("a:b".into()))),
        ] {
            assert_eq!(BuildRequest::read(OsStr::new(text)), Ok(build), "{text}");
        }
        assert!(BuildRequest::read(OsStr::new("")).is_err());
    }

    fn image(text: &str) -> Result<ImageRequest, ValueError> {
        ImageRequest::read(OsStr::new(text))
    }

    #[test]
    fn a_directory_is_told_from_the_name_of_an_image() {
        assert_eq!(image("host"), Ok(ImageRequest::Host));
        assert_eq!(image("auto"), Ok(ImageRequest::Auto));
        assert_eq!(image("rootfs:./alpine"), Ok(ImageRequest::Rootfs("./alpine".into())));
        for name in ["alpine", "hosts", "host:1", "docker.io/library/host", "rootfs", "rootfs/x"] {
            assert_eq!(image(name), Ok(ImageRequest::Reference(name.into())));
        }
        assert_eq!(image("rootfs:x.wasm"), Ok(ImageRequest::Rootfs("x.wasm".into())));
        let bytes = ImageRequest::read(OsStr::from_bytes(b"rootfs:/\xff"));
        assert_eq!(bytes, Ok(ImageRequest::Rootfs(OsStr::from_bytes(b"/\xff").into())));
    }

    #[test]
    fn a_module_is_told_by_how_it_ends_or_by_its_word() {
        for path in ["app.wasm", "./app.wat", "/srv/app.wasm", "../a b.wat", "x/y.wasm", "A.wasm"] {
            assert_eq!(image(path), Ok(ImageRequest::Module(path.into())), "{path}");
            let worded = image(&format!("module:{path}"));
            assert_eq!(worded, Ok(ImageRequest::Module(path.into())), "{path}");
        }
        assert_eq!(image("module:app"), Ok(ImageRequest::Module("app".into())));
        assert_eq!(image("module:rootfs:x"), Ok(ImageRequest::Module("rootfs:x".into())));
        for name in ["module", "wasm", "app.wasm:1", "ghcr.io/x/app.wasm:1", "app.wast"] {
            assert_eq!(image(name), Ok(ImageRequest::Reference(name.into())));
        }
        let bytes = ImageRequest::read(OsStr::from_bytes(b"\xff.wasm"));
        assert_eq!(bytes, Ok(ImageRequest::Module(OsStr::from_bytes(b"\xff.wasm").into())));
    }

    #[test]
    fn what_is_no_image_is_answered_with_what_is_one() {
        let expected = "is not \"host\", \"auto\", rootfs:DIR, a module's file such as app.wasm or the \
                        name of an image such as";
        for text in
            ["", "rootfs:", "module:", "-x", "Host", "a b", "a\0", "a\n", "a:", "a@b", "a/../b"]
        {
            let said = image(text).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{text:?} {expected}")), "{text:?}: {said}");
        }
        for path in ["./dir", "/dir", "..", "../x", "~/dir", "."] {
            let said = image(path).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{path:?} is a path: write rootfs:DIR")), "{said}");
        }
        let long = image(&"x".repeat(100_000)).unwrap_err().to_string();
        assert!(long.contains("longer than 255") && long.len() < 300, "{long}");
        let bytes = ImageRequest::read(OsStr::from_bytes(b"a\xff")).unwrap_err().to_string();
        assert!(bytes.contains("UTF-8"), "{bytes}");
    }
}
