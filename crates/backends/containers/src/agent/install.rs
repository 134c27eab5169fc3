//! What is put into a place to come, which nobody in it can make: the agent's program, and the lists of
//! users.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::{about, name_lines};
use crate::greeting::Resident;

/// The folder beside it, where something else is mounted when nobody can make it any more.
const DOOR: &str = "door";

/// Puts this program's file at `target`, which is then whole, and makes the folders `own`, each of which is
/// the caller's alone.
pub fn install(target: &Path, own: impl Iterator<Item = impl AsRef<Path>>) -> io::Result<()> {
    let part = target.with_extension("part");
    let mut from = File::open("/proc/self/exe")?;
    io::copy(&mut from, &mut File::create(&part)?)?;
    fs::set_permissions(&part, Permissions::from_mode(0o755))?;
    fs::create_dir(target.with_file_name(DOOR))?;
    for folder in own {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    fs::rename(part, target)
}

/// Puts the lists of users that are here into a folder, with a name for the caller, who is `user`.
pub fn install_names(folder: &Path, user: &Resident) -> io::Result<()> {
    let about = about();
    let (passwd, group) = name_lines(user, &about);
    for (list, known, own) in [("passwd", about.passwd, passwd), ("group", about.group, group)] {
        let path = folder.join(list);
        fs::write(&path, known + &own.unwrap_or_default())?;
        fs::set_permissions(path, Permissions::from_mode(0o644))?;
    }
    Ok(())
}
