//! A sandbox's root file system, as a list of steps.
//!
//! All of it stands in one tmpfs, the scratch space: the new root is a directory in it, what is
//! written goes to it, and its size bounds that. The steps run in the scratch space's directory,
//! on relative paths, in order; the new root is `root` there.

mod execute;
mod host;
mod mounts;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentkernel_core::{Access, BootError, Identity, Image, Network, RootAccess, Spec, c_string};
use agentkernel_sys::mount::Restrictions;

use crate::identity::Mapping;
use crate::plan::is_foreign;
use crate::stored::Trees;
use crate::users::Users;

pub use execute::{Behind, attach};
pub use host::accounts;
use mounts::tree_source;
pub use mounts::{Owners, Sent, TreeSource, no_copy_of_a_file, upper};

/// One step. Paths are relative to the scratch space unless they start with `/`, which then is
/// still the host's.
#[derive(Debug)]
pub enum Step {
    /// Mounts the scratch space over the host's `/sys`, which nobody wants to see, and goes there.
    Scratch {
        options: CString,
    },
    Directory {
        path: CString,
        mode: u32,
    },
    Link {
        path: CString,
        target: CString,
    },
    File {
        path: CString,
        content: Vec<u8>,
    },
    /// Mounts a new file system.
    Mount {
        kind: &'static CStr,
        path: CString,
        restrictions: Restrictions,
        options: CString,
    },
    /// Shows what is at `source` at `path` too, with all that is mounted below it.
    Bind {
        source: CString,
        path: CString,
        restrictions: Restrictions,
    },
    /// Covers `path` with `source`; where `path` does not exist there is nothing to cover.
    Mask {
        source: &'static CStr,
        path: CString,
    },
    /// Has it belong to user 0 inside.
    GiveToRoot {
        path: CString,
    },
    /// Makes a place for a mount in the root: `below` are the ways there, the shortest first.
    /// Links in the root lead nowhere outside it.
    Place {
        below: Vec<CString>,
        file: bool,
    },
    /// Mounts a part of a tree at `path`, relative to the root if it is `inside` it.
    Tree {
        source: TreeSource,
        restrictions: Restrictions,
        path: CString,
        inside: bool,
    },
    /// Bars writing to the root's own mount; those mounted in it keep what they allow.
    BarRoot,
    /// Makes `root` the root of all processes here.
    Enter,
}

/// What a root is made on and for.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The directories of its image, if that has any, the lowest first.
    pub trees: &'a [PathBuf],
    pub identity: &'a Identity,
    pub users: &'a Users,
    pub mapping: Mapping,
    /// Where what is written is kept, if it is.
    pub layers: Option<&'a Path>,
}

/// A plan of a root file system.
#[derive(Debug)]
pub struct Root {
    pub steps: Vec<Step>,
    /// Below which directories commands may write; everywhere if there are none.
    pub writable: Vec<CString>,
}

/// What nearly every mount of a sandbox keeps from it.
const GUARDED: Restrictions = Restrictions::NO_SETUID.and(Restrictions::NO_DEVICES);
const READ_ONLY: Restrictions = GUARDED.and(Restrictions::READ_ONLY);

impl Root {
    /// Plans the root of a place made from `spec`. What is written goes to the layers if there are
    /// any, else to the scratch space.
    pub fn plan(spec: &Spec, on: &Ground<'_>, scratch: Option<u64>) -> Result<Self, BootError> {
        let Ground { identity, mapping, layers, .. } = *on;
        let mut steps = Steps { list: Vec::with_capacity(96), layers: layers.is_some() };
        // Empty files take room too: as much as if each held a page.
        let size =
            scratch.map(|size| format!(",size={size},nr_inodes={}", (size / 4096).max(1024)));
        let size = size.unwrap_or_default();
        steps.push(Step::Scratch { options: c_string(format!("mode=755{size}"))? });
        steps.directory("root", 0o755)?;
        if let Some(layers) = layers {
            steps.directory(LAYERS, 0o755)?;
            let source = tree_source(layers, mapping, Owners::Own)?;
            let path = c_string(LAYERS)?;
            steps.push(Step::Tree { source, restrictions: GUARDED, path, inside: false });
        }
        match &spec.image {
            Image::Host => steps.own_image(&host::PROGRAMS, &host::SETTINGS, identity, spec)?,
            Image::Module(_) => steps.own_image(&[], &[], identity, spec)?,
            Image::Rootfs(_) | Image::Reference(_) => {
                steps.foreign_image(on, spec)?;
            }
        }
        // In somebody's image a link may be anywhere, so nothing is done in it by mere paths. In
        // what a sandbox has left behind too.
        let foreign = is_foreign(&spec.image) || layers.is_some();
        steps.devices(foreign, spec.root)?;
        // A module's process is the engine's, whose memory and start it must not see.
        if !matches!(spec.image, Image::Module(_)) {
            steps.processes(foreign)?;
        }
        steps.private_directories(identity, spec, foreign)?;
        for (number, mount) in spec.mounts.iter().enumerate() {
            steps.user_mount(number, mount, &spec.mounts, mapping)?;
        }
        if spec.root == RootAccess::ReadOnly {
            steps.push(Step::BarRoot);
        }
        steps.push(Step::Enter);
        Ok(Self { steps: steps.list, writable: writable(spec, &identity.home)? })
    }

    /// The trees that the engine must send, in the order in which the steps want them.
    pub fn sent(&self) -> impl Iterator<Item = &Sent> {
        self.steps.iter().filter_map(|step| match step {
            Step::Tree { source: TreeSource::Sent(sent), .. } => Some(sent),
            _ => None,
        })
    }
}

/// The steps that lay an image's directories over each other, to be looked at only.
pub fn merging(trees: &[PathBuf]) -> Result<Vec<Step>, BootError> {
    let mut steps = Steps { list: Vec::new(), layers: false };
    steps.push(Step::Scratch { options: c_string("mode=755")? });
    steps.directory("root", 0o755)?;
    // By this process itself.
    let lower = steps.lower_trees(&Trees(trees), Mapping::Single { uid: 0, gid: 0 })?;
    steps.mount(c"overlay", "root", READ_ONLY, &format!("lowerdir={lower},userxattr"))?;
    Ok(steps.list)
}

/// A list of steps in the making.
struct Steps {
    list: Vec<Step>,
    /// Whether there are layers, in the scratch space's directory [`LAYERS`].
    layers: bool,
}

/// Where layers show in the scratch space.
const LAYERS: &str = "layers";

impl Steps {
    fn push(&mut self, step: Step) {
        self.list.push(step);
    }

    /// The device nodes that every program may expect, and no others.
    fn devices(&mut self, foreign: bool, root: RootAccess) -> Result<(), BootError> {
        const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
        const LINKS: [(&str, &str); 5] = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ];
        let dev = if foreign { "dev" } else { "root/dev" };
        let restrictions = Restrictions::NO_SETUID.and(Restrictions::NO_EXEC);
        self.directory(dev, 0o755)?;
        for node in NODES {
            let path = format!("{dev}/{node}");
            self.file(&path, "")?;
            self.bind(&format!("/dev/{node}"), &path, restrictions)?;
        }
        for (name, target) in LINKS {
            self.link(&format!("{dev}/{name}"), target)?;
        }
        self.directory(&format!("{dev}/pts"), 0o755)?;
        self.directory(&format!("{dev}/shm"), 0o1777)?;
        let options = "newinstance,ptmxmode=0666,mode=620";
        self.mount(c"devpts", &format!("{dev}/pts"), restrictions, options)?;
        let restrictions = match root {
            RootAccess::Writable => Restrictions::NONE,
            // What is written to a device is not written to its file system.
            RootAccess::ReadOnly => Restrictions::READ_ONLY,
        };
        if foreign { self.tree_at_place(dev, dev, restrictions) } else { Ok(()) }
    }

    /// A fresh `/proc` that shows only the sandbox's own processes, can't be written, and has
    /// covers over what tells of the host or controls it: the container engines' default list.
    fn processes(&mut self, foreign: bool) -> Result<(), BootError> {
        const FILES: [&str; 9] = [
            "interrupts",
            "kallsyms",
            "kcore",
            "key-users",
            "keys",
            "latency_stats",
            "sched_debug",
            "sysrq-trigger",
            "timer_list",
        ];
        const DIRECTORIES: [&str; 4] = ["acpi", "asound", "driver", "scsi"];
        let proc = if foreign { "proc" } else { "root/proc" };
        self.directory(proc, 0o555)?;
        // What can't be traced is not shown: the agent, whose arguments are the caller's.
        self.mount(c"proc", proc, READ_ONLY.and(Restrictions::NO_EXEC), "hidepid=2")?;
        for file in FILES {
            let path = c_string(format!("{proc}/{file}"))?;
            self.push(Step::Mask { source: c"/dev/null", path });
        }
        self.directory("empty", 0o555)?;
        for directory in DIRECTORIES {
            let path = c_string(format!("{proc}/{directory}"))?;
            self.push(Step::Mask { source: c"empty", path });
        }
        if foreign { self.tree_at_place(proc, proc, Restrictions::NONE) } else { Ok(()) }
    }

    /// Directories that can be written whatever the root is. They are apart from the root if that
    /// is somebody's image, or can't be written; if the root is kept, they are kept with it.
    fn private_directories(
        &mut self,
        identity: &Identity,
        spec: &Spec,
        foreign: bool,
    ) -> Result<(), BootError> {
        let (home, root) = (identity.home.trim_matches('/'), spec.root);
        if !foreign && root == RootAccess::Writable {
            self.directory("root/tmp", 0o1777)?;
            self.directory("root/run", 0o755)?;
            return self.directories("root", Path::new(home));
        }
        self.private("run", "run", 0o755)?;
        self.private("shm", "dev/shm", 0o1777)?;
        // What an image has in its home is its user's.
        let shows_own = self.layers || matches!(spec.image, Image::Reference(_));
        if shows_own && root == RootAccess::Writable {
            self.place(Path::new("tmp"), false)?;
            return self.place(Path::new(home), false);
        }
        let kept = |name: &str| match self.layers {
            true => format!("{LAYERS}/{name}"),
            false => name.to_owned(),
        };
        let (tmp, own_home) = (kept("tmp"), kept("home"));
        self.private(&tmp, "tmp", 0o1777)?;
        if home.is_empty() { Ok(()) } else { self.private(&own_home, home, 0o755) }
    }

    /// Shows a directory of its own, `name` in the scratch space, at `place` in the root.
    fn private(&mut self, name: &str, place: &str, mode: u32) -> Result<(), BootError> {
        self.directory(name, mode)?;
        self.tree_at_place(name, place, GUARDED)
    }

    /// Makes `path` and all above it in a `root` that is our own.
    fn directories(&mut self, root: &str, path: &Path) -> Result<(), BootError> {
        for way in ways(path) {
            let path = c_string(Path::new(root).join(way).as_os_str().as_bytes())?;
            self.push(Step::Directory { path, mode: 0o755 });
        }
        Ok(())
    }

    fn directory(&mut self, path: &str, mode: u32) -> Result<(), BootError> {
        self.push(Step::Directory { path: c_string(path)?, mode });
        Ok(())
    }

    fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) -> Result<(), BootError> {
        self.push(Step::File { path: c_string(path)?, content: content.into() });
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), BootError> {
        self.push(Step::Link { path: c_string(path)?, target: c_string(target)? });
        Ok(())
    }

    fn bind(
        &mut self,
        source: &str,
        path: &str,
        restrictions: Restrictions,
    ) -> Result<(), BootError> {
        let (source, path) = (c_string(source)?, c_string(path)?);
        self.push(Step::Bind { source, path, restrictions });
        Ok(())
    }

    fn mount(
        &mut self,
        kind: &'static CStr,
        path: &str,
        restrictions: Restrictions,
        options: &str,
    ) -> Result<(), BootError> {
        let (path, options) = (c_string(path)?, c_string(options)?);
        self.push(Step::Mount { kind, path, restrictions, options });
        Ok(())
    }

    /// Makes a place for a mount at `path`, relative to a root that may be somebody's.
    fn place(&mut self, path: &Path, file: bool) -> Result<(), BootError> {
        let below: Vec<CString> = ways(path)
            .into_iter()
            .map(|way| c_string(way.as_os_str().as_bytes()))
            .collect::<Result<_, _>>()?;
        if !below.is_empty() {
            self.push(Step::Place { below, file });
        }
        Ok(())
    }

    /// Mounts the scratch space's directory `name` at `path`, relative to the root.
    fn tree_at_place(
        &mut self,
        name: &str,
        path: &str,
        restrictions: Restrictions,
    ) -> Result<(), BootError> {
        self.place(Path::new(path), false)?;
        let source = TreeSource::Local { path: c_string(name)? };
        let path = c_string(path)?;
        self.push(Step::Tree { source, restrictions, path, inside: true });
        Ok(())
    }
}

/// The ways from the root to `path`, the shortest first.
fn ways(path: &Path) -> Vec<&Path> {
    let mut ways: Vec<&Path> = path.ancestors().filter(|way| !way.as_os_str().is_empty()).collect();
    ways.reverse();
    ways
}

/// Below which places a command in a place made from `spec` may write; everywhere if there are none.
pub fn writable(spec: &Spec, home: &str) -> Result<Vec<CString>, BootError> {
    if spec.root == RootAccess::Writable {
        return Ok(Vec::new());
    }
    let private = ["/tmp", "/run", "/dev", home].map(Path::new);
    let mounts = spec.mounts.iter().filter(|mount| mount.access != Access::ReadOnly);
    private
        .into_iter()
        .filter(|place| *place != Path::new("/"))
        .chain(mounts.map(|mount| mount.target.as_path()))
        .map(|place| c_string(place.as_os_str().as_bytes()))
        .collect()
}

/// The host's resolver settings, where the sandbox shares its network.
fn resolver(spec: &Spec) -> Option<Vec<u8>> {
    if spec.network == Network::None { None } else { std::fs::read("/etc/resolv.conf").ok() }
}
