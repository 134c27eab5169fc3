//! From a user's words to the core's types: every default filled in, every path made sure of.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_core::{Capabilities, Command, Image, Mount, Profile, Provision, Spec};

use crate::profile::{Defaults, defaults};
use crate::{Machine, ProjectRequest, SpecRequest, Volume, limits, resolve_ports};

mod image;

/// What of the caller, and of what it is about to do, a spec depends on.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub variables: &'a [(OsString, OsString)],
    pub machine: Machine,
    /// Of the backend that is to boot it, which decide what an image is where none is named.
    pub capabilities: Capabilities,
    /// The program of its command, where it is for one.
    pub program: Option<&'a OsStr>,
}

/// A request in the core's types.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The backend asked for, which may not exist.
    pub backend: Option<String>,
    pub spec: Spec,
    pub time_limit: Option<Duration>,
    /// Why the spec has its image, to follow "because"; `None` if it was asked for by its name.
    pub image_why: Option<String>,
    /// How the spec's image is to be had. One that is built is called
    /// `localhost/agentkernel-build-DIGEST:latest` with the first 16 digits of its folder's SHA-256.
    pub provision: Provision,
}

/// Why a request can't be a spec.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("{what} {} can't be used: {source}", path.display())]
    Path { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what} {} is relative to a directory that is not known", path.display())]
    Relative { what: &'static str, path: PathBuf },
    #[error("the image {} is not a directory", .0.display())]
    ImageNotDirectory(PathBuf),
    #[error("the module {} is not a file", .0.display())]
    ModuleNotFile(PathBuf),
    #[error("an image is named or built, not both")]
    BuildAndImage,
    #[error("{} has no Dockerfile to build an image from", .0.display())]
    NoDockerfile(PathBuf),
    #[error("the project {} is not a directory", .0.display())]
    ProjectNotDirectory(PathBuf),
    #[error(
        "the project can't be {}: at its own path it would hide the sandbox's {}",
        project.display(),
        hidden.display()
    )]
    ProjectHides { project: PathBuf, hidden: PathBuf },
    #[error("nothing can be mounted at {}, which is the sandbox's own", .0.display())]
    Target(PathBuf),
    #[error("two volumes have the target {}", .0.display())]
    SameTarget(PathBuf),
    #[error("the host's port {host} can't lead to both {} and {}", targets[0], targets[1])]
    SamePort { host: SocketAddr, targets: [String; 2] },
    #[error("more than {most} ports are to lead into one sandbox")]
    ManyPorts { most: usize },
    #[error("--{what} {asked} is more than the machine has: {most}")]
    MoreThanMachine { what: &'static str, asked: String, most: String },
    #[error("no command was given")]
    NoCommand,
    #[error("an argument of the command holds a NUL")]
    Nul,
    #[error("a WebAssembly module is its own entrypoint, and has no other")]
    EntrypointOfModule,
    #[error("{0:?} is not the name of a function")]
    FunctionName(String),
    #[error("the function {0:?} can't be called: only a WebAssembly module has functions")]
    FunctionOfProgram(String),
}

impl RequestError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Path { .. } => "check the path; it must exist, and you must be able to read it",
            Self::Relative { .. } => "name it by its absolute path",
            Self::ImageNotDirectory(_) => {
                "name the directory with the image's files, as rootfs:DIR"
            }
            Self::ModuleNotFile(_) => {
                "name the file of a WebAssembly module, as in --image app.wasm"
            }
            Self::BuildAndImage => "leave out one of image and build where both are said",
            Self::NoDockerfile(_) => "name a folder that has one, as in --build=DIR",
            Self::ProjectNotDirectory(_) => "name its directory, or mount a file with -v SRC:DST",
            Self::ProjectHides { .. } => {
                "name the project's own folder with --project=DIR, or use -v SRC:DST"
            }
            Self::Target(_) => "choose another target",
            Self::SameTarget(_) => "give each volume a target of its own",
            Self::SamePort { .. } => "give each a port of its own, or have the system pick one",
            Self::ManyPorts { .. } => "publish those that are needed",
            Self::MoreThanMachine { .. } => "lower the limit, or leave it out",
            Self::NoCommand => "name one after the flags, as in agentkernel run -- echo hello",
            Self::Nul => "leave it out: no argument of a program can hold one",
            Self::EntrypointOfModule => "leave out --entrypoint, or name an image with programs",
            Self::FunctionName(_) => "name a function that the module exports",
            Self::FunctionOfProgram(_) => {
                "leave out --invoke, or name a module, as in agentkernel run --invoke add app.wasm 1 2"
            }
        }
    }
}

impl SpecRequest {
    /// The core's types of this request. It must be anchored.
    ///
    /// Of the machine, only the paths that it names are looked at, and the names in the project's
    /// folder where they choose the image. Whether a backend exists and can do all this is not asked
    /// here.
    pub fn resolve(self, caller: &Caller<'_>) -> Result<Resolved, RequestError> {
        let registries = self.registries();
        let profile = self.profile.unwrap_or(Profile::Moderate);
        let defaults = defaults(profile);
        let limits = limits::resolve(&self, &defaults, &caller.machine)?;
        let project = self.project.map(|p| project(p, &defaults)).transpose()?.flatten();
        let shown = project.as_ref().map(|mount| mount.source.as_path());
        let image::Settled { image, why, build } =
            image::settle(self.image, self.build, shown, caller)?;
        let start = project.as_ref().map(|mount| mount.target.clone());
        let spec = Spec {
            profile,
            image,
            mounts: mounts(project, self.volumes)?,
            directory: self.directory.or(start),
            environment: environment(self.env, &defaults, caller.variables),
            network: self.network.unwrap_or(defaults.network),
            ports: resolve_ports(self.ports)?,
            root: defaults.root,
            user: self.user.unwrap_or(defaults.user),
            limits,
            strict: self.strict.unwrap_or(false),
        };
        Ok(Resolved {
            backend: self.backend,
            spec,
            time_limit: self.timeout,
            image_why: why,
            provision: Provision { build, pull: self.pull.unwrap_or_default(), registries },
        })
    }
}

/// The core's type of a command, which may call a function of a module. Whether it makes sense is
/// known with its image: see [`check_command`].
pub fn command(
    argv: Vec<OsString>,
    function: Option<String>,
    time_limit: Option<Duration>,
) -> Result<Command, RequestError> {
    if argv.iter().any(|word| word.as_bytes().contains(&0)) {
        return Err(RequestError::Nul);
    }
    match function {
        Some(name) if name.is_empty() || name.contains('\0') => {
            Err(RequestError::FunctionName(name))
        }
        function => Ok(Command { argv, function, time_limit, ..Command::default() }),
    }
}

/// The same with this entrypoint before its words, if it is not empty; or else with that of its image.
pub fn with_entrypoint(
    command: Command,
    entrypoint: Option<OsString>,
    image: &Image,
) -> Result<Command, RequestError> {
    match (entrypoint, image) {
        (None, _) => Ok(Command { by_image: true, ..command }),
        (Some(_), Image::Module(_)) => Err(RequestError::EntrypointOfModule),
        (Some(program), _) => {
            let program = Some(program).filter(|program| !program.is_empty());
            let argv = program.into_iter().chain(command.argv).collect();
            self::command(argv, command.function, command.time_limit)
        }
    }
}

/// Refuses a command that no sandbox of this image could run: where that is not the program, the
/// first word names one.
pub fn check_command(command: &Command, image: &Image) -> Result<(), RequestError> {
    match (image, &command.function) {
        (Image::Module(_), _) => Ok(()),
        (_, Some(name)) => Err(RequestError::FunctionOfProgram(name.clone())),
        // It may have a command of its own, which is known once it is there.
        (Image::Reference(_), None) if command.by_image => Ok(()),
        (_, None) if command.argv.is_empty() => Err(RequestError::NoCommand),
        (_, None) => Ok(()),
    }
}

/// The folders of a sandbox without which nothing in it works.
const OWN: [&str; 13] = [
    "/bin", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/tmp",
    "/usr", "/var",
];

/// The file systems of the kernel: a mount inside them would undo walls.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

fn project(request: ProjectRequest, defaults: &Defaults) -> Result<Option<Mount>, RequestError> {
    let ProjectRequest::On { directory, access } = request else {
        return Ok(None);
    };
    let path = canonical("the project", directory.unwrap_or_default())?;
    if !path.is_dir() {
        return Err(RequestError::ProjectNotDirectory(path));
    }
    if let Some(hidden) = OWN.iter().map(Path::new).find(|own| own.starts_with(&path)) {
        return Err(RequestError::ProjectHides { project: path, hidden: hidden.into() });
    }
    let access = access.unwrap_or(defaults.project);
    Ok(Some(Mount { source: path.clone(), target: path, access }))
}

/// All mounts, sorted so that none hides another by being mounted over it later.
fn mounts(project: Option<Mount>, volumes: Vec<Volume>) -> Result<Vec<Mount>, RequestError> {
    let mut mounts: Vec<Mount> = project.into_iter().collect();
    for Volume { source, target, access } in volumes {
        let source = canonical("the volume", source)?;
        mounts.push(Mount { source, target, access });
    }
    if let Some(mount) = mounts.iter().find(|mount| !may_mount_at(&mount.target)) {
        return Err(RequestError::Target(mount.target.clone()));
    }
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    match mounts.windows(2).find(|pair| pair[0].target == pair[1].target) {
        Some(pair) => Err(RequestError::SameTarget(pair[0].target.clone())),
        None => Ok(mounts),
    }
}

fn may_mount_at(target: &Path) -> bool {
    // Shared memory is a directory like any other.
    let shared = Path::new("/dev/shm");
    let kernel = KERNEL.iter().any(|own| target.starts_with(own));
    target != Path::new("/") && (!kernel || (target.starts_with(shared) && target != shared))
}

fn canonical(what: &'static str, path: PathBuf) -> Result<PathBuf, RequestError> {
    if path.is_relative() {
        return Err(RequestError::Relative { what, path });
    }
    path.canonicalize().map_err(|source| RequestError::Path { what, path, source })
}

/// The profile's share of the caller's variables, under those that were asked for.
fn environment(
    asked: BTreeMap<OsString, Option<OsString>>,
    defaults: &Defaults,
    caller: &[(OsString, OsString)],
) -> BTreeMap<OsString, OsString> {
    let mut all = BTreeMap::new();
    for (name, value) in caller {
        if defaults.variables.iter().any(|pattern| matches(name, pattern)) {
            all.insert(name.clone(), value.clone());
        }
    }
    for (name, value) in asked {
        let copied = || caller.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        match value.or_else(copied) {
            Some(value) => all.insert(name, value),
            // Asked to be the caller's, and the caller has none.
            None => all.remove(&name),
        };
    }
    all
}

fn matches(name: &OsStr, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.as_bytes().starts_with(start.as_bytes()),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests;
