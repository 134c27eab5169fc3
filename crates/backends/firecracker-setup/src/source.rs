//! Where a kernel is taken from.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use agentkernel_core::hex;
use sha2::{Digest, Sha256};

use crate::image::{self, Image};
use crate::{SetupError, ar, deb, modules};

/// A kernel that was found, with what is beside it.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub version: String,
    pub image: PathBuf,
    /// A folder such as `/lib/modules/VERSION`.
    pub modules: Option<PathBuf>,
    pub config: Option<PathBuf>,
}

/// Where packages of kernels may lie that apt has fetched.
pub const ARCHIVES: &str = "/var/cache/apt/archives";

/// The kernels that lie below `root` as distributions install them, the newest first.
pub fn installed(root: &Path) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for version in names(&root.join("boot")).iter().filter_map(|name| name.strip_prefix("vmlinuz-"))
    {
        if image::is_version(version) {
            all.extend(of_version(root, version, root.join(format!("boot/vmlinuz-{version}"))));
        }
    }
    for modules in ["lib/modules", "usr/lib/modules"].map(|name| root.join(name)) {
        for version in names(&modules).iter().filter(|name| image::is_version(name)) {
            let image = modules.join(version).join("vmlinuz");
            if image.is_file() && all.iter().all(|found| found.version != *version) {
                all.extend(of_version(root, version, image));
            }
        }
    }
    all.sort_by_cached_key(|found| Reverse(age(&found.version)));
    all
}

/// Packages of kernels in a folder, those for clouds first, which are small, and then the newest.
pub fn packages(folder: &Path) -> Vec<PathBuf> {
    let mut all = names(folder);
    all.retain(|name| {
        let rest = name.strip_prefix("linux-image-").filter(|_| name.ends_with(".deb"));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            && !name.contains("-dbg")
    });
    all.sort_by_cached_key(|name| Reverse((name.contains("cloud"), age(name))));
    all.into_iter().map(|name| folder.join(name)).collect()
}

/// What somebody has named. A package is unpacked into the folder `tree`, which is made; says whether it
/// was made sure of that all is as its maker had it.
pub fn named(path: &Path, tree: &Path) -> Result<(Found, bool), SetupError> {
    let path = &fs::canonicalize(path).map_err(SetupError::read(path))?;
    if path.is_dir() {
        return folder(path).map(|found| (found, false));
    }
    let mut file = File::open(path).map_err(SetupError::read(path))?;
    let is_verified = verify(path)?;
    let mut start = Vec::new();
    (&mut file).take(8).read_to_end(&mut start).map_err(SetupError::read(path))?;
    if ar::is_archive(&start) {
        let has_sums = deb::unpack(path, tree)?;
        let found = installed(tree).into_iter().next();
        let found = found.ok_or_else(|| {
            SetupError::no_kernel(path, "there is no vmlinuz in it: it may only name another one")
        })?;
        return Ok((found, has_sums || is_verified));
    }
    let image = Image::of(&file).map_err(|why| SetupError::no_kernel(path, why))?;
    let version = image.version(&file).map_err(SetupError::read(path))?;
    let version = version.ok_or_else(|| SetupError::no_kernel(path, "it says no version"))?;
    let folder = path.parent().unwrap_or(path);
    let found = match modules::version_of(folder) {
        Some(name) if name == version => root_of(folder),
        // As in /boot, or in a copy of it.
        _ => folder.parent(),
    };
    let mut found = [found, Some(Path::new("/"))].into_iter().flatten().map(|root| Found {
        modules: modules_in(root, &version),
        config: None,
        version: version.clone(),
        image: path.clone(),
    });
    let mut found = match found.find(|found| found.modules.is_some()) {
        Some(found) => found,
        None => Found { version, image: path.clone(), modules: None, config: None },
    };
    found.config = config_of(&found);
    Ok((found, is_verified))
}

/// A folder such as `/lib/modules/VERSION`, or one that others lie in as below `/`.
fn folder(path: &Path) -> Result<Found, SetupError> {
    let none = || SetupError::no_kernel(path, "there is no vmlinuz in it, nor in boot beside it");
    let Some(version) = modules::version_of(path).filter(|_| path.join("kernel").is_dir()) else {
        return installed(path).into_iter().next().ok_or_else(none);
    };
    let beside = root_of(path).map(|root| root.join(format!("boot/vmlinuz-{version}")));
    let image = [Some(path.join("vmlinuz")), beside].into_iter().flatten().find(|p| p.is_file());
    let mut found = Found {
        version: version.into(),
        image: image.ok_or_else(none)?,
        modules: Some(path.to_owned()),
        config: None,
    };
    found.config = config_of(&found);
    Ok(found)
}

/// What a folder's `lib/modules/VERSION` lies in, or its `usr/lib/modules/VERSION`.
fn root_of(modules: &Path) -> Option<&Path> {
    let root = modules.parent()?.parent()?.parent()?;
    match root.file_name() {
        Some(name) if name == "usr" => root.parent(),
        _ => Some(root),
    }
}

fn of_version(root: &Path, version: &str, image: PathBuf) -> Option<Found> {
    let modules = modules_in(root, version);
    let mut found = Found { version: version.into(), image, modules, config: None };
    found.config = config_of(&found);
    Some(found)
}

fn modules_in(root: &Path, version: &str) -> Option<PathBuf> {
    let all = ["lib/modules", "usr/lib/modules"].map(|name| root.join(name).join(version));
    all.into_iter().find(|folder| folder.is_dir())
}

/// The kernel's configuration, where distributions put it, and where deploy/kernel/build.sh does.
fn config_of(found: &Found) -> Option<PathBuf> {
    let name = format!("config-{}", found.version);
    let beside = found.image.with_file_name(&name);
    let mut with_end = found.image.clone().into_os_string();
    with_end.push(".config");
    let root = found.modules.as_deref().and_then(root_of);
    let all = [
        Some(beside),
        Some(with_end.into()),
        root.map(|root| root.join("boot").join(&name)),
        found.modules.as_ref().map(|folder| folder.join("config")),
    ];
    all.into_iter().flatten().find(|path| path.is_file())
}

/// Compares a file with its digest, if that is beside it, in a file of its own or of many.
fn verify(path: &Path) -> Result<bool, SetupError> {
    let Some(name) = path.file_name() else { return Ok(false) };
    let mut own = name.to_owned();
    own.push(".sha256");
    let lists = [(path.with_file_name(own), true), (path.with_file_name("SHA256SUMS"), false)];
    for (list, is_own) in lists {
        let text = match fs::read_to_string(&list) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.map_err(SetupError::read(&list))?,
        };
        let mut lines = text.lines().filter_map(|line| {
            let (sum, of) = line.split_once(' ').unwrap_or((line, ""));
            let of = Path::new(of.trim_start_matches([' ', '*']));
            (is_own || of.file_name() == Some(name)).then_some(sum)
        });
        let Some(sum) = lines.next() else { continue };
        let mut hasher = Sha256::new();
        let mut file = File::open(path).map_err(SetupError::read(path))?;
        io::copy(&mut file, &mut HashWriter(&mut hasher)).map_err(SetupError::read(path))?;
        if !sum.eq_ignore_ascii_case(&hex(&hasher.finalize())) {
            let why = format!("it is not what {} has it to be", list.display());
            return Err(SetupError::damaged(path, why));
        }
        return Ok(true);
    }
    Ok(false)
}

pub(crate) struct HashWriter<'a>(pub &'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a folder has; nothing if it is not there, or not to be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What versions are compared by: numbers as such, and what is between them as text.
fn age(version: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, from_number) = rest.split_at(end);
        let end = from_number.find(|c: char| !c.is_ascii_digit()).unwrap_or(from_number.len());
        let (number, after) = from_number.split_at(end);
        parts.push((text.to_owned(), number.parse().unwrap_or(0)));
        rest = after;
    }
    parts
}
