//! Compiled code, kept for the next time.
//!
//! Whoever has the code of a module runs it as the machine's own, so nothing is taken for code that
//! somebody else could have written, or that has changed since it was. Three kinds of files are in the
//! folder of a [`Form`] in `agentkernel` in the user's cache:
//!
//! - `code/KEY`: what was compiled. The key is made of the module's content, the form of the code, and
//!   what the processor can do.
//! - `sums/KEY`: the digest of that file, and its [`Stamp`] when it had that digest.
//! - `seen/STAMP`: which key the content of a module's file has, by the file's own stamp. So a module
//!   that is known is not read again.
//!
//! A stamp has the time of a file's last change of any kind, which only the system's clock sets. A file
//! with the stamp that it had when it was read is as it was then.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime};

use agentkernel_core::{BootError, hex};
use agentkernel_sys::descriptor;
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use sha2::{Digest, Sha256};

use crate::{Driver, Form};

/// A module that is larger is none.
const MOST_MODULE: u64 = 256 << 20;

/// What is kept at most: so many codes, of so many bytes together.
const MOST_CODES: usize = 512;
const MOST_BYTES: u64 = 2 << 30;

/// How many modules' files are remembered at most.
const MOST_SEEN: usize = 4096;

/// How long a file must have rested to be known by its stamp. Of two changes within a step of the clock
/// that stamps files, 10 ms at most, the second does not show.
const REST: Duration = Duration::from_millis(20);

/// The code of the module in this file: what is kept, or what the driver makes of it. Without one it is
/// an error that there is none.
pub fn code(path: &Path, form: Form, driver: Option<&dyn Driver>) -> Result<OwnedFd, BootError> {
    let (mut file, stamp) = open_module(path).map_err(|error| unusable(path, error))?;
    let folder = Folder::open(form.folder);
    if let Some(found) = folder.as_ref().and_then(|folder| folder.find(stamp)) {
        return Ok(found);
    }
    let driver = driver.ok_or_else(|| BootError::Unavailable {
        why: format!("{} has not been compiled yet", path.display()),
        fix: "run it with agentkerneld, which is installed beside agentkernel".into(),
    })?;
    stamp.await_rest();
    let mut module = Vec::new();
    (&mut file)
        .take(MOST_MODULE + 1)
        .read_to_end(&mut module)
        .map_err(|error| unusable(path, error))?;
    let key = key(&module, form);
    let kept = folder.as_ref().and_then(|folder| folder.open_code(&key, driver));
    let code = match kept {
        Some(kept) => kept,
        None => {
            let code = driver.compile(&module)?;
            match folder.as_ref().map(|folder| folder.keep(&key, &code)) {
                Some(Ok(kept)) => kept,
                // A cache that can't be written makes all slower, and nothing else.
                Some(Err(_)) | None => in_memory(&code)?,
            }
        }
    };
    // It may have changed while it was read.
    let is_same = file.metadata().is_ok_and(|found| Stamp::of(&found) == stamp);
    if let Some(folder) = folder.filter(|_| is_same) {
        // Else it is read again the next time.
        let _ = folder.remember(stamp, &key);
    }
    Ok(code)
}

fn unusable(path: &Path, source: io::Error) -> BootError {
    BootError::Refused {
        why: format!("the module {} can't be used: {source}", path.display()),
        fix: "name a file with a WebAssembly module that you may read".into(),
    }
}

fn open_module(path: &Path) -> io::Result<(File, Stamp)> {
    // A pipe would keep everybody waiting.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if found.len() > MOST_MODULE {
        return Err(io::Error::other(format!("it has more than {} MiB", MOST_MODULE >> 20)));
    }
    Ok((file, Stamp::of(&found)))
}

/// What tells whether a file is another one, or has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// In nanoseconds since 1970.
    changed: i128,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
        Self { device: found.dev(), inode: found.ino(), size: found.size(), changed }
    }

    fn text(self) -> String {
        let Self { device, inode, size, changed } = self;
        format!("{device:x}-{inode:x}-{size:x}-{changed:x}")
    }

    /// Waits until it has rested: a moment, and only for a file that was just written.
    fn await_rest(self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        let rested = u64::try_from(now - self.changed).unwrap_or(0);
        let left = REST.saturating_sub(Duration::from_nanos(rested));
        let _ = descriptor::poll(&mut [], Some(left));
    }
}

/// By what the code of a module is kept.
fn key(module: &[u8], form: Form) -> String {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(form.is);
    digest.update(processor());
    digest.update(module);
    hex(&digest.finalize())
}

/// What code may make use of here, so that a home that several machines share has code for each kind.
fn processor() -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    let has = {
        macro_rules! has {
            ($($name:tt)*) => { vec![$(u8::from(std::arch::is_x86_feature_detected!($name))),*] };
        }
        has!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt"
             "avx512bitalg" "avx512dq" "avx512f" "avx512vl" "avx512vbmi" "cmpxchg16b")
    };
    #[cfg(not(target_arch = "x86_64"))]
    let has = Vec::new();
    [std::env::consts::ARCH.as_bytes(), &has].concat()
}

/// The folder of all that is kept.
struct Folder(PathBuf);

impl Folder {
    /// The folder, if it is ours alone, or can be made so.
    fn open(name: &str) -> Option<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let cache =
            absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        let folder = Self(cache.join("agentkernel").join(name));
        if folder.is_ours() {
            return Some(folder);
        }
        for name in ["code", "sums", "seen"] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder.0.join(name));
            made.ok()?;
        }
        folder.is_ours().then_some(folder)
    }

    /// Whether nobody else could write there.
    fn is_ours(&self) -> bool {
        let ours = |path: &Path| {
            fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && is_private(&found))
        };
        ours(&self.0) && ["code", "sums", "seen"].iter().all(|name| ours(&self.0.join(name)))
    }

    /// The code of the module's file with this stamp.
    fn find(&self, module: Stamp) -> Option<OwnedFd> {
        let key = self.read("seen", &module.text())?;
        let sum = self.read("sums", &key)?;
        let (code, stamp) = open_private(&self.0.join("code").join(&key)).ok()?;
        (sum.split_once(' ')?.1 == stamp.text()).then(|| code.into())
    }

    /// The code with this key, if it is as it was written.
    fn open_code(&self, key: &str, driver: &dyn Driver) -> Option<OwnedFd> {
        let sum = self.read("sums", key)?;
        let (mut file, stamp) = open_private(&self.0.join("code").join(key)).ok()?;
        let mut code = Vec::new();
        file.read_to_end(&mut code).ok()?;
        let digest = hex(&Sha256::digest(&code));
        if sum.split_once(' ')?.0 != digest || !driver.accepts(&code) {
            return None;
        }
        // Without it, it is read again the next time.
        let _ = self.write("sums", key, format!("{digest} {}", stamp.text()).as_bytes());
        Some(file.into())
    }

    /// Keeps the code of a module.
    fn keep(&self, key: &str, code: &[u8]) -> io::Result<OwnedFd> {
        self.make_room();
        self.write("code", key, code)?;
        let (file, stamp) = open_private(&self.0.join("code").join(key))?;
        if stamp.size != code.len() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let digest = hex(&Sha256::digest(code));
        self.write("sums", key, format!("{digest} {}", stamp.text()).as_bytes())?;
        Ok(file.into())
    }

    fn remember(&self, module: Stamp, key: &str) -> io::Result<()> {
        let all: Vec<_> = fs::read_dir(self.0.join("seen"))?.collect();
        if all.len() >= MOST_SEEN {
            // They are remembered again as they are used.
            all.into_iter().flatten().for_each(|entry| _ = fs::remove_file(entry.path()));
        }
        self.write("seen", &module.text(), key.as_bytes())
    }

    /// Removes what was compiled first, until there is room for one more.
    fn make_room(&self) {
        let Ok(all) = fs::read_dir(self.0.join("code")) else { return };
        let found = all.flatten().filter_map(|entry| Some((entry.metadata().ok()?, entry.path())));
        let mut found: Vec<(SystemTime, u64, PathBuf)> = found
            .filter_map(|(found, path)| Some((found.modified().ok()?, found.len(), path)))
            .collect();
        found.sort();
        let mut bytes: u64 = found.iter().map(|(_, size, _)| size).sum();
        let mut count = found.len();
        for (_, size, path) in found {
            if count < MOST_CODES && bytes < MOST_BYTES {
                return;
            }
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(self.0.join("sums").join(path.file_name().unwrap_or_default()));
            (bytes, count) = (bytes - size, count - 1);
        }
    }

    /// A short file's content.
    fn read(&self, kind: &str, name: &str) -> Option<String> {
        const MOST: u64 = 1024;
        let (file, _) = open_private(&self.0.join(kind).join(name)).ok()?;
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text).ok()?;
        // It may lead to a file, and nowhere else.
        (!text.contains(['/', '\0'])).then_some(text)
    }

    /// Writes a file whole, or leaves what there was.
    fn write(&self, kind: &str, name: &str, content: &[u8]) -> io::Result<()> {
        let folder = self.0.join(kind);
        let draft = folder.join(format!(".{name}.{}", process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| fs::rename(&draft, folder.join(name)));
        written.inspect_err(|_| _ = fs::remove_file(&draft))
    }
}

fn is_private(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
}

/// Opens a file that nobody else could have written.
fn open_private(path: &Path) -> io::Result<(File, Stamp)> {
    let plain = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(plain).open(path)?;
    let found = file.metadata()?;
    match found.is_file() && is_private(&found) {
        true => Ok((file, Stamp::of(&found))),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// The code in a file that is nowhere.
fn in_memory(code: &[u8]) -> Result<OwnedFd, BootError> {
    let write = || -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("module", flags)?);
        file.write_all(code)?;
        file.rewind()?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
        fcntl_add_seals(file.as_fd(), seals)?;
        Ok(file.into())
    };
    write().map_err(|source| BootError::Failed {
        what: "can't keep the module's code in memory".into(),
        source,
    })
}
