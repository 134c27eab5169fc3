//! Settings files where they are: which is a user's, and whose a file must be to be believed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The settings file of a user, in the folder of their configuration.
const USER_FILE: &str = "agentkernel/config.toml";

/// No settings file is longer, in bytes.
const MAX_LENGTH: u64 = 1 << 20;

/// Why a file that is there is not read.
#[derive(Debug, Error)]
pub enum OwnedError {
    #[error("is not a file")]
    NoFile,
    #[error("can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("belongs to user {0}, not to you")]
    Others(u32),
    #[error("is longer than 1 MiB")]
    Long,
}

/// Where the settings file of a user is, by their variables: XDG_CONFIG_HOME and HOME. What is no absolute
/// path there doesn't count, as the XDG specification has it.
pub fn user_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    config.map(|config| config.join(USER_FILE))
}

/// The bytes of a settings file that belongs to the `caller` or to root, if there is one. Whoever can plant a
/// file could otherwise open the sandboxes of everybody who comes by.
pub fn read_owned(
    path: &Path,
    caller: impl FnOnce() -> io::Result<u32>,
) -> Result<Option<Vec<u8>>, OwnedError> {
    // Opening a pipe would wait for its writer, so the kind is asked first.
    match fs::metadata(path) {
        Ok(data) if data.is_file() => {}
        Ok(_) => return Err(OwnedError::NoFile),
        Err(err) if is_absence(&err) => return Ok(None),
        Err(err) => return Err(err.into()),
    }
    let file = File::open(path)?;
    let owner = file.metadata()?.uid();
    if owner != 0 && owner != caller()? {
        return Err(OwnedError::Others(owner));
    }
    let mut text = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_LENGTH {
        return Err(OwnedError::Long);
    }
    Ok(Some(text))
}

/// Whether there is no file, or none of the caller's: a home that the caller may not even enter
/// is somebody else's, as when root becomes another user and keeps the variables.
fn is_absence(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_file_lies_where_xdg_says() {
        let of = |config: &str| {
            user_file(|name| Some(if name == "HOME" { "/home/me" } else { config }.into()))
        };
        assert_eq!(of("/xdg"), Some("/xdg/agentkernel/config.toml".into()));
        // The specification has relative paths ignored.
        for value in ["", "relative"] {
            assert_eq!(of(value), Some("/home/me/.config/agentkernel/config.toml".into()));
        }
        assert_eq!(user_file(|_| None), None);
    }

    #[test]
    fn a_file_is_believed_whose_owner_is_the_caller_or_root() {
        let own = Path::new("/etc/passwd");
        assert!(read_owned(own, || Ok(7)).unwrap().is_some());
        let folder = std::env::temp_dir().join(format!("owned-{}", std::process::id()));
        fs::write(&folder, "x").unwrap();
        let owner = fs::metadata(&folder).unwrap().uid();
        assert_eq!(read_owned(&folder, || Ok(owner)).unwrap(), Some(b"x".into()));
        let others = read_owned(&folder, || Ok(owner + 1));
        fs::remove_file(&folder).unwrap();
        match others {
            // Root's is everybody's.
            Ok(Some(_)) => assert_eq!(owner, 0),
            Err(OwnedError::Others(told)) => assert_eq!(told, owner),
            other => panic!("{other:?}"),
        }
    }
}
