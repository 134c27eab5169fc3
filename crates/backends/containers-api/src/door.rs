//! The folder through which a container's agent connects.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use agentkernel_containers::LINK;
use agentkernel_sys::socket;
use tokio::net::UnixListener;

/// What the folders of one process and its containers are called by. Whoever finds them can tell
/// whether their maker still lives.
pub const PREFIX: &str = "agentkernel-";

/// A name that no other process's, and no other of this one's, has: its number and when it began,
/// and the process namespace in which that is its number.
pub fn own_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let began = began(pid).unwrap_or_default();
    format!("{PREFIX}{pid}-{began:x}-{:x}-{count}", namespace().unwrap_or_default())
}

/// Whether `name` is one of [those](own_name) of a process that lives no more. Of one in another
/// process namespace, who may use the same engine, that can't be told.
pub fn is_orphans(name: &str) -> bool {
    let maker = || {
        let mut parts = name.strip_prefix(PREFIX)?.splitn(4, '-');
        let mut next = || parts.next();
        let (pid, began, own, count) = (next()?, next()?, next()?, next()?);
        count.parse::<u64>().ok()?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some((pid.parse::<u32>().ok()?, hex(began)?, hex(own)?))
    };
    maker().is_some_and(|(pid, then, own)| Some(own) == namespace() && began(pid) != Some(then))
}

/// The number of the process namespace.
fn namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// When a process began, in the kernel's ticks since its start.
fn began(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// A path for a folder of this process's.
pub fn own_folder() -> PathBuf {
    std::env::temp_dir().join(own_name())
}

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
    fn only_names_of_the_dead_are_orphans() {
        let own = own_name();
        assert!(!is_orphans(&own));
        let pid = std::process::id();
        let earlier = own.replacen(&format!("-{:x}-", began(pid).unwrap()), "-1-", 1);
        assert!(is_orphans(&earlier), "another process had the number before");
        let here = namespace().unwrap();
        assert!(is_orphans(&format!("agentkernel-4194304-1-{here:x}-0")));
        let elsewhere = format!("agentkernel-4194304-1-{:x}-0", here + 1);
        let no_count = format!("agentkernel-4194304-1-{here:x}-x");
        for foreign in ["agentkernel-web", "agentkernel-1-2", "postgres", &elsewhere, &no_count] {
            assert!(!is_orphans(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_door_leaves_nothing_behind() {
        let door = Door::open(None).unwrap();
        let folder = door.fleeting.clone().unwrap();
        assert!(folder.join("door").join(LINK).exists());
        drop(door);
        assert!(!folder.exists());
    }
}
