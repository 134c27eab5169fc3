//! Which of a kernel's modules machines need, and in which order they are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

use crate::config::Config;
use crate::packing::{self, CopyError};
use crate::{SetupError, image};

/// What machines need, by its module and the option that has it in the kernel itself.
const NEEDED: [(&str, &str); 6] = [
    ("virtio_mmio", "VIRTIO_MMIO"),
    ("virtio_blk", "VIRTIO_BLK"),
    ("vmw_vsock_virtio_transport", "VIRTIO_VSOCKETS"),
    ("erofs", "EROFS_FS"),
    ("overlay", "OVERLAY_FS"),
    ("ext4", "EXT4_FS"),
];

/// What they do without: the processor's own random numbers are there as well.
const OPTIONAL: &str = "virtio_rng";

/// What only those with a network need.
const NETWORK: (&str, &str) = ("tun", "TUN");

/// The largest module, unpacked, and how many of them a kernel may have.
const MOST_BYTES: u64 = 64 << 20;
const MOST: usize = 100_000;

/// How many may be needed.
const MOST_NEEDED: usize = 200;

/// A kernel's modules, in a folder such as `/lib/modules/VERSION`, and what it has in itself.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<String, PathBuf>,
    /// None if nothing says it.
    builtin: Option<BTreeSet<String>>,
}

/// One that is to be loaded.
#[derive(Debug)]
pub struct Module {
    /// Its file's name, without what says how it is packed.
    pub file: String,
    pub bytes: Vec<u8>,
}

/// Those that are to be loaded, in order.
pub struct Chosen {
    pub always: Vec<Module>,
    /// For a network, after the others.
    pub network: Vec<Module>,
    /// Whether the kernel can have a network with them.
    pub has_network: bool,
}

impl Tree {
    pub fn of(folder: &Path) -> Result<Self, SetupError> {
        let mut tree = Self::default();
        let list = folder.join("modules.builtin");
        tree.builtin = match fs::read_to_string(&list) {
            Ok(text) => Some(text.lines().filter_map(|line| name(Path::new(line))).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(SetupError::read(&list)(error)),
        };
        let mut left = vec![folder.join("kernel")];
        while let Some(folder) = left.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(SetupError::read(&folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(SetupError::read(&folder))?;
                let kind = entry.file_type().map_err(SetupError::read(&folder))?;
                let path = entry.path();
                if kind.is_dir() {
                    left.push(path);
                } else if let Some(name) = name(&path).filter(|_| kind.is_file()) {
                    tree.files.insert(name, path);
                }
            }
            if tree.files.len() + left.len() > MOST {
                return Err(SetupError::damaged(&folder, "it has more modules than any kernel"));
            }
        }
        Ok(tree)
    }

    /// The modules to be loaded, in order, for the kernel `version`. Fails with all that is missing.
    pub fn choose(&self, version: &str, config: Option<&Config>) -> Result<Chosen, SetupError> {
        let mut choice = Choice {
            tree: self,
            version,
            config,
            order: Vec::new(),
            seen: BTreeSet::new(),
            lacking: Vec::new(),
        };
        for (name, option) in NEEDED {
            if !choice.add(name)? && !choice.is_in_kernel(name, Some(option)) {
                choice.lacking.push(format!("{name} (CONFIG_{option})"));
            }
        }
        choice.add(OPTIONAL)?;
        let count = choice.order.len();
        let has_network = choice.add(NETWORK.0)? || choice.is_in_kernel(NETWORK.0, Some(NETWORK.1));
        let network = choice.order.split_off(count);
        let always = choice.order;
        let mut what = choice.lacking;
        what.extend(config.into_iter().flat_map(|config| config.lacks(!always.is_empty())));
        match what.is_empty() {
            true => Ok(Chosen { always, network, has_network }),
            false => Err(SetupError::Lacks { version: version.into(), what }),
        }
    }

    /// Whether something tells what the kernel has in itself.
    pub fn knows_builtin(&self) -> bool {
        self.builtin.is_some()
    }

    /// The ciphers that are also called so. Their modules lie in folders of that name, and other
    /// names lead to no module that another one asks for by such a name.
    fn ciphers(&self, alias: &str) -> Result<Vec<String>, SetupError> {
        let mut found = Vec::new();
        for (name, path) in &self.files {
            if path.components().any(|part| part.as_os_str() == "crypto")
                && Facts::of(&read(path)?).is_ok_and(|facts| facts.aliases.contains(alias))
            {
                found.push(name.clone());
            }
        }
        Ok(found)
    }
}

/// The choice so far.
struct Choice<'a> {
    tree: &'a Tree,
    version: &'a str,
    config: Option<&'a Config>,
    order: Vec<Module>,
    seen: BTreeSet<String>,
    lacking: Vec<String>,
}

impl Choice<'_> {
    /// Adds a module after all that it needs; says whether there is one.
    fn add(&mut self, name: &str) -> Result<bool, SetupError> {
        let name = normal(name);
        let Some(path) = self.tree.files.get(&name) else { return Ok(false) };
        if !self.seen.insert(name.clone()) {
            return Ok(true);
        }
        // Each that needs another is one more call.
        if self.seen.len() > MOST_NEEDED {
            return Err(SetupError::damaged(
                path,
                "more modules need each other than in any kernel",
            ));
        }
        let bytes = read(path)?;
        let facts = Facts::of(&bytes).map_err(|why| SetupError::damaged(path, why))?;
        if facts.version.as_deref().is_some_and(|version| version != self.version) {
            let why = format!("it is not of the kernel {}", self.version);
            return Err(SetupError::damaged(path, why));
        }
        // What only should be there may be had without.
        for wish in &facts.before {
            if !self.add(wish)? {
                for cipher in self.tree.ciphers(wish)? {
                    self.add(&cipher)?;
                }
            }
        }
        for need in &facts.needs {
            if !self.add(need)? && !self.is_in_kernel(need, None) {
                self.lacking.push(format!("{need} (which {name} needs)"));
            }
        }
        let file = path.file_stem().unwrap_or_default().to_string_lossy();
        let file = format!("{}.ko", file.trim_end_matches(".ko"));
        self.order.push(Module { file, bytes });
        Ok(true)
    }

    /// As far as anything tells: without that, whoever has named the kernel is believed.
    fn is_in_kernel(&self, name: &str, option: Option<&str>) -> bool {
        match (&self.tree.builtin, self.config, option) {
            (Some(builtin), ..) => builtin.contains(&normal(name)),
            (None, Some(config), Some(option)) => config.has(option),
            (None, ..) => true,
        }
    }
}

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    needs: Vec<String>,
    before: Vec<String>,
    aliases: BTreeSet<String>,
    version: Option<String>,
}

impl Facts {
    fn of(bytes: &[u8]) -> Result<Self, String> {
        let file = ElfFile64::<Endianness>::parse(bytes).map_err(|error| error.to_string())?;
        let section = file.section_by_name(".modinfo").ok_or("it is no module of a kernel")?;
        let text = section.data().map_err(|error| error.to_string())?;
        let mut facts = Self::default();
        for entry in text.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            let Some((key, value)) = entry.split_once('=') else { continue };
            match key {
                "depends" => {
                    facts.needs = value
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned)
                        .collect();
                }
                "softdep" => {
                    let words = value.split_whitespace();
                    let before = words.skip_while(|word| *word != "pre:").skip(1);
                    facts
                        .before
                        .extend(before.take_while(|word| *word != "post:").map(str::to_owned));
                }
                "alias" => {
                    facts.aliases.insert(value.into());
                }
                "vermagic" => facts.version = value.split(' ').next().map(str::to_owned),
                _ => {}
            }
        }
        Ok(facts)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SetupError> {
    let file = File::open(path).map_err(SetupError::read(path))?;
    let mut bytes = Vec::new();
    let damaged = |why: io::Error| SetupError::damaged(path, why);
    let mut unpacked = packing::open(file).map_err(damaged)?;
    match packing::copy(&mut unpacked, &mut bytes, MOST_BYTES, |_| {}) {
        Ok(_) => Ok(bytes),
        Err(CopyError::Read(why) | CopyError::Write(why)) => Err(damaged(why)),
    }
}

/// The module that a path is of.
fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, packing) = file.split_once(".ko")?;
    let is_module = matches!(packing, "" | ".xz" | ".zst" | ".gz") && !name.is_empty();
    is_module.then(|| normal(name))
}

/// A module's name as it is written where both forms are the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The kernel of modules in a folder such as `/lib/modules/VERSION`.
pub fn version_of(folder: &Path) -> Option<&str> {
    folder.file_name()?.to_str().filter(|name| image::is_version(name))
}
