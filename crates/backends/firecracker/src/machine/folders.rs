//! Copies of folders of the host's, and what is written to them.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use agentkernel_far::word;
use agentkernel_sys::descriptor;
use agentkernel_sys::mount::{Detached, Restrictions};

use super::mounts::{GUARDED, Trees, WRITTEN, c, failed, mount_at};
use crate::upper_of;
use crate::words::{Making, Mounted, Reply};

/// Has the host send those folders that are not here yet, and mounts each: as it is if nobody may write to it, and
/// else under an overlay with what is written.
pub fn copies(making: &Making, host: &OwnedFd) -> io::Result<Trees> {
    if making.mounts.is_empty() {
        return Ok(Trees::new());
    }
    let missing = |number: &usize| !Path::new(&base(*number)).exists();
    let folders: Vec<usize> = (0..making.mounts.len()).filter(missing).collect();
    word::write(host.as_fd(), &Reply::Wants { folders: folders.clone() })?;
    for number in folders {
        take(number, &making.mounts[number], making.owner, host)?;
    }
    let mounts = making.mounts.iter().enumerate();
    mounts
        .map(|(number, mounted)| Ok((mounted.target.clone(), tree(number, mounted, making.kept)?)))
        .collect()
}

/// Makes the home that a folder lies in, if it is missing: it is to be its user's.
pub fn make_home(making: &Making) -> io::Result<()> {
    let home = Path::new(&making.home);
    let holds = |mounted: &Mounted| Path::new(&mounted.target).starts_with(home);
    if making.read_only || home.exists() || !making.mounts.iter().any(holds) {
        return Ok(());
    }
    let (uid, gid) = making.owner;
    DirBuilder::new().recursive(true).mode(0o755).create(home)?;
    chown(home, Some(uid), Some(gid))
}

fn base(number: usize) -> String {
    format!("{WRITTEN}/base-{number}")
}

/// Takes a folder from the host. It is there whole or not at all.
fn take(number: usize, mounted: &Mounted, owner: (u32, u32), host: &OwnedFd) -> io::Result<()> {
    let (base, part) = (base(number), format!("{WRITTEN}/part-{number}"));
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let input = word::Bytes(host.as_fd());
    let taken = agentkernel_files::receive_folder(input, Path::new(&part), owner);
    let what = format!("can't take the copy for {}", mounted.target);
    let _ = taken.map_err(|error| failed(&what)(io::Error::other(error.to_string())))?;
    fs::rename(part, base)
}

fn tree(number: usize, mounted: &Mounted, kept: bool) -> io::Result<Detached> {
    let open = |path: &str| Detached::copy(descriptor::open_path(&c(path)?)?.as_fd(), false);
    let base = base(number);
    if !mounted.writable {
        let tree = open(&base)?;
        tree.restrict(GUARDED.and(Restrictions::READ_ONLY), false)?;
        return Ok(tree);
    }
    let (upper, work) =
        (format!("{WRITTEN}/{}", upper_of(number)), format!("{WRITTEN}/work-{number}"));
    let like = fs::metadata(&base)?;
    for directory in [&upper, &work] {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    if fs::read_dir(&upper)?.next().is_none() {
        // What is on top shows.
        chown(&upper, Some(like.uid()), Some(like.gid()))?;
        fs::set_permissions(&upper, Permissions::from_mode(like.mode() & 0o7777))?;
    }
    let shown = format!("/shown-{number}");
    let notes = if kept { ",userxattr" } else { "" };
    let options = format!("lowerdir={base},upperdir={upper},workdir={work}{notes}");
    mount_at("overlay", &shown, GUARDED, &options)?;
    open(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_has_the_name_of_the_roots() {
        assert_ne!(upper_of(0), crate::UPPER);
    }
}
