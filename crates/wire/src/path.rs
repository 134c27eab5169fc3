//! What of the host a sandbox sees, as users write it: images, volumes and the project.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use agentkernel_core::Access;
use serde::{Deserialize, Deserializer};

use crate::value::{self, ValueError, Written, unexpected};

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRequest {
    /// `host`: the machine's own programs.
    Host,
    /// `rootfs:DIR`: a directory that holds a root file system. Other words will be images' names.
    Rootfs(PathBuf),
}

impl Written for ImageRequest {
    const EXPECTED: &'static str =
        "\"host\", or rootfs:DIR with a directory that holds a root file system";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        match (text.as_bytes(), text.as_bytes().strip_prefix(b"rootfs:")) {
            (b"host", _) => Ok(Self::Host),
            (_, Some(dir)) if !dir.is_empty() => Ok(Self::Rootfs(OsStr::from_bytes(dir).into())),
            _ => Err(unexpected::<Self>(text)),
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
            (Some(source), Some(target)) if !source.is_empty() => (source, target),
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
    fn a_directory_is_told_from_the_name_of_an_image() {
        let rootfs = |text: &str| ImageRequest::read(OsStr::new(text));
        assert_eq!(rootfs("host"), Ok(ImageRequest::Host));
        assert_eq!(rootfs("rootfs:./alpine"), Ok(ImageRequest::Rootfs("./alpine".into())));
        assert!(rootfs("alpine").is_err());
        assert!(rootfs("rootfs:").is_err());
    }
}
