//! The folder through which a container's agent connects.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentkernel_containers::{LINK, own_folder};
use agentkernel_sys::socket;
use tokio::net::UnixListener;

/// The folder, while somebody may come in.
pub struct Door {
    listener: OwnedFd,
    folder: PathBuf,
    /// What goes with it: only for as long as nobody has come in.
    fleeting: Option<PathBuf>,
}

impl Door {
    /// Opens one in `lasting`, which is there for as long as its sandbox, or in a folder of its own.
    pub fn open(lasting: Option<&Path>) -> io::Result<Self> {
        let fleeting = lasting.is_none().then(own_folder);
        if let Some(folder) = &fleeting {
            DirBuilder::new().mode(0o700).create(folder)?;
        }
        let above = fleeting.as_deref().or(lasting).unwrap_or(Path::new("/"));
        let folder = above.join("door");
        let made = Self::listen(&folder);
        if made.is_err()
            && let Some(folder) = &fleeting
        {
            let _ = fs::remove_dir_all(folder);
        }
        Ok(Self { listener: made?, folder, fleeting })
    }

    /// Whoever is root in the container need not be anybody outside, so this must be open to all.
    /// The folder above it is not.
    fn listen(folder: &Path) -> io::Result<OwnedFd> {
        match DirBuilder::new().mode(0o755).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        let path = folder.join(LINK);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = socket::listen(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(listener)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for the first to come in, who finds the door closed behind it.
    pub async fn admit(&self) -> io::Result<OwnedFd> {
        let listener = std::os::unix::net::UnixListener::from(self.listener.try_clone()?);
        listener.set_nonblocking(true)?;
        let (stream, _) = UnixListener::from_std(listener)?.accept().await?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream.into())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // What could not be removed is swept later.
        let _ = fs::remove_file(self.folder.join(LINK));
        if let Some(folder) = &self.fleeting {
            let _ = fs::remove_dir(&self.folder);
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The folder for the door of the sandbox whose container is called `name` and whose layers are in
/// `layers`: it must be the same for each start.
pub fn lasting(layers: &Path, name: &str) -> io::Result<PathBuf> {
    // Some engines read paths of mounts as parts of a longer text.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@~".contains(&byte);
    if layers.as_os_str().as_bytes().iter().copied().all(is_plain) {
        return Ok(layers.to_owned());
    }
    let folder = elsewhere(name);
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let found = fs::symlink_metadata(&folder)?;
    let own = rustix::process::geteuid().as_raw();
    // Others may write in the folder above.
    match found.is_dir() && found.uid() == own && found.mode() & 0o077 == 0 {
        true => Ok(folder),
        false => Err(io::Error::other(format!("{} is somebody else's", folder.display()))),
    }
}

/// Removes the folder of [`lasting`], if there is one besides the layers.
pub fn forget(name: &str) {
    // Somebody else's can't be, and is not meant.
    let _ = fs::remove_dir_all(elsewhere(name));
}

fn elsewhere(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// The agent's program: the small one, which lies beside this one.
pub fn agent() -> io::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("agentkernel");
    match beside.is_file() {
        true => Ok(beside),
        false => {
            let why = format!("there is no {}, beside agentkerneld", beside.display());
            Err(io::Error::new(io::ErrorKind::NotFound, why))
        }
    }
}

/// The same as a file in `lasting`, which stays where it is when programs are moved or removed. It
/// is made anew for each start, so that it is of this version.
pub fn lasting_agent(lasting: &Path) -> io::Result<PathBuf> {
    let (to, fresh) = (lasting.join("agent"), lasting.join("agent.new"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut from = File::open(agent()?)?;
    let mut copy = File::create_new(&fresh)?;
    io::copy(&mut from, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(0o755))?;
    // A container that still ends may have the one before.
    fs::rename(&fresh, &to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_leaves_nothing_behind() {
        let door = Door::open(None).unwrap();
        let folder = door.fleeting.clone().unwrap();
        assert!(folder.join("door").join(LINK).exists());
        drop(door);
        assert!(!folder.exists());
    }
}
