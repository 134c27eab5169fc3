//! A Debian package of a kernel (deb(5)), of which only the kernel is unpacked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use agentkernel_core::hex;
use md5::{Digest, Md5};
use tar::{Archive, EntryType};

use crate::SetupError;
use crate::ar::{self, Member};
use crate::packing::{self, CopyError};

/// What a package may have, unpacked.
const MOST_BYTES: u64 = 4 << 30;
const MOST_ENTRIES: usize = 200_000;
const MOST_SUMS: u64 = 64 << 20;

/// Digests of its files, as the package itself has them.
type Sums = BTreeMap<PathBuf, String>;

/// Puts a package's kernel, its configuration and its modules into the folder `root`, as they would lie
/// below `/`. Says whether all of them are what the package's own list has them to be; they may only
/// differ from it where it has none.
pub fn unpack(path: &Path, root: &Path) -> Result<bool, SetupError> {
    let damaged = |why: io::Error| SetupError::damaged(path, why);
    let mut file = BufReader::new(File::open(path).map_err(SetupError::read(path))?);
    let members = ar::members(&mut file).map_err(damaged)?;
    let member = |start: &str| {
        let found = members.iter().find(|member| member.name.starts_with(start));
        found.ok_or_else(|| SetupError::no_kernel(path, format!("it has no {start}")))
    };
    let mut sums = sums(member("control.tar")?, &mut file).map_err(damaged)?;
    let had_sums = sums.is_some();
    let mut files = Files { path, root, sums: &mut sums, bytes: 0 };
    let packed = member("data.tar")?.open(&mut file).map_err(damaged)?;
    let mut archive = Archive::new(packing::open(packed).map_err(damaged)?.take(MOST_BYTES));
    for (number, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        let name = inside(&entry.path().map_err(damaged)?).map_err(damaged)?;
        if number > MOST_ENTRIES {
            return Err(SetupError::damaged(path, "it has more files than any kernel"));
        }
        if is_wanted(&name) && entry.header().entry_type() == EntryType::Regular {
            files.take(&name, &mut entry)?;
        }
    }
    match sums.and_then(|sums| sums.into_keys().find(|name| is_wanted(name))) {
        Some(name) => {
            Err(SetupError::damaged(path, format!("it has no {}, and lists it", name.display())))
        }
        None => Ok(had_sums),
    }
}

struct Files<'a> {
    path: &'a Path,
    root: &'a Path,
    /// What has not come yet of what is listed.
    sums: &'a mut Option<Sums>,
    bytes: u64,
}

impl Files<'_> {
    fn take(&mut self, name: &Path, from: &mut impl Read) -> Result<(), SetupError> {
        let damaged = |why: String| SetupError::damaged(self.path, why);
        let to = self.root.join(name);
        let folder = to.parent().unwrap_or(self.root);
        fs::create_dir_all(folder).map_err(SetupError::write(folder))?;
        let mut out = match File::create_new(&to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(damaged(format!("it has {} twice", name.display())));
            }
            out => out.map_err(SetupError::write(&to))?,
        };
        let mut hasher = Md5::new();
        let left = MOST_BYTES - self.bytes;
        let copied = packing::copy(from, &mut out, left, |piece| hasher.update(piece));
        self.bytes += copied.map_err(|error| match error {
            CopyError::Read(why) => damaged(why.to_string()),
            CopyError::Write(source) => SetupError::write(&to)(source),
        })?;
        let found = hex(&hasher.finalize());
        match self.sums.as_mut().map(|sums| sums.remove(name)) {
            Some(None) => Err(damaged(format!("{} is not in its list", name.display()))),
            Some(Some(listed)) if listed != found => {
                Err(damaged(format!("{} is not what its list has it to be", name.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Its list of digests, if it has one.
fn sums(control: &Member, file: &mut BufReader<File>) -> io::Result<Option<Sums>> {
    let mut archive = Archive::new(packing::open(control.open(file)?)?.take(MOST_BYTES));
    for entry in archive.entries()? {
        let entry = entry?;
        if inside(&entry.path()?)? != Path::new("md5sums") {
            continue;
        }
        let mut text = String::new();
        entry.take(MOST_SUMS).read_to_string(&mut text)?;
        let line = |line: &str| {
            let (sum, name) = line.split_once("  ")?;
            Some((PathBuf::from(name), sum.to_owned()))
        };
        let all = text.lines().map(line).collect::<Option<Sums>>();
        return all.map(Some).ok_or_else(|| io::Error::other("its list of digests is none"));
    }
    Ok(None)
}

/// A member's path, if it leads nowhere else.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let all = parts.map(|part| match part {
        Component::Normal(name) => Ok(name),
        _ => Err(io::Error::other(format!("{} leads out of it", path.display()))),
    });
    all.collect()
}

/// Whether it is the kernel's. Some have their modules below `usr`.
fn is_wanted(name: &Path) -> bool {
    let modules = name.strip_prefix("usr").unwrap_or(name).starts_with("lib/modules");
    let is_module = || {
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        file == "modules.builtin" || file == "vmlinuz" || file.contains(".ko")
    };
    let boot = || {
        let name = name.strip_prefix("boot").ok().and_then(Path::to_str);
        name.is_some_and(|name| name.starts_with("vmlinuz-") || name.starts_with("config-"))
    };
    if modules { is_module() } else { boot() }
}
