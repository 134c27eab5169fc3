//! From flags and all that lies under them to a spec, for every verb that makes a sandbox.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::mem;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{Backend, Capabilities, Class, Registries, Spec};
use agentkernel_wire::{Caller, Environment, Machine, PoolRequest, Resolved, SpecRequest, nearest};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::settings::ReadFiles;
use crate::{machine, settings};

use super::module;

/// What is asked for, resolved.
pub(super) struct Gathered {
    pub resolved: Resolved,
    /// The settings files that were read.
    pub files: Vec<PathBuf>,
    pub pools: FilesPools,
    /// Whether the backend is the one for its image, and nobody has named it.
    pub by_image: bool,
}

/// The pools that settings files want, not looked into before somebody needs them.
pub(super) struct FilesPools {
    /// What goes for each of them besides its own.
    base: SpecRequest,
    pools: BTreeMap<String, PoolRequest>,
    backends: &'static [&'static dyn Backend],
}

impl FilesPools {
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Each pool's name and size, how old its sandboxes may get, and what they are made of. They are
    /// for many commands, so none of those chooses their image.
    pub fn resolve(self) -> impl Iterator<Item = Result<FilesPool, CommandError>> {
        let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
        self.pools.into_iter().map(move |(name, pool)| {
            let PoolRequest { size, max_age, spec } = pool;
            let request = spec.over(self.base.clone());
            let backend = backend_of(&request, self.backends)?;
            let spec = request.resolve(&caller(backend, &variables, None))?.spec;
            Ok(FilesPool { name, size: size.get(), max_age, spec })
        })
    }
}

/// A pool of a settings file.
pub(super) struct FilesPool {
    pub name: String,
    pub size: u32,
    pub max_age: Option<Duration>,
    pub spec: Spec,
}

/// Resolves what is asked for, for a command of these words if it is for one. A module among them is
/// taken out.
pub(super) fn resolve(
    low: &mut LowArgs,
    mut words: Option<&mut Vec<OsString>>,
    backends: &'static [&'static dyn Backend],
) -> Result<Gathered, CommandError> {
    let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    let flags = mem::take(&mut low.spec);
    let settings = settings::gather(flags, &low.env_files, read_files(low), &variables)?;
    let (mut request, files) = (settings.request, settings.files);
    let runners = module::runners(backends);
    let is_module = words.as_mut().is_some_and(|words| {
        module::take(&mut request, words, env::current_dir().ok().as_deref(), &runners)
    });
    let by_image = module::choose_backend(&mut request, &runners, low.function.is_some());
    let backend = backend_of(&request, backends)?;
    let pools = mem::take(&mut request.pools);
    let base = if pools.is_empty() { SpecRequest::default() } else { request.clone() };
    let program = words.and_then(|words| words.first()).map(OsString::as_os_str);
    let mut resolved = request.resolve(&caller(backend, &variables, program))?;
    if is_module {
        resolved.image_why = Some("the command names it".into());
    }
    Ok(Gathered { resolved, files, pools: FilesPools { base, pools, backends }, by_image })
}

/// How registries are to be asked, as the settings have it.
pub(super) fn registries(low: &LowArgs) -> Result<Registries, CommandError> {
    let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    let settings = settings::gather(SpecRequest::default(), &[], read_files(low), &variables)?;
    Ok(settings.request.registries())
}

/// The variables that were given. One without a value is the caller's, who may have none.
pub(super) fn given_variables(given: Environment) -> BTreeMap<OsString, OsString> {
    let value = |(name, value): (OsString, Option<OsString>)| {
        let value = value.or_else(|| env::var_os(&name))?;
        Some((name, value))
    };
    given.into_iter().filter_map(value).collect()
}

fn read_files(low: &LowArgs) -> ReadFiles {
    match (low.no_config, low.trust) {
        (true, _) => ReadFiles::None,
        (false, false) => ReadFiles::All,
        (false, true) => ReadFiles::Trusted,
    }
}

/// Who asks for a sandbox of this backend, for a command that begins with `program` if it is for one.
fn caller<'a>(
    backend: Option<&'static dyn Backend>,
    variables: &'a [(OsString, OsString)],
    program: Option<&'a OsStr>,
) -> Caller<'a> {
    let capabilities = backend.map_or(Capabilities::new(&[]), |backend| backend.capabilities());
    // A cluster's machines have what they have.
    let is_here = backend.is_none_or(|backend| backend.about().class != Class::Orchestrator);
    let machine = if is_here { machine::facts() } else { Machine::default() };
    Caller { variables, machine, capabilities, program }
}

/// The backend of a request, which must be there.
fn backend_of(
    request: &SpecRequest,
    backends: &'static [&'static dyn Backend],
) -> Result<Option<&'static dyn Backend>, CommandError> {
    let Some(asked) = request.backend.as_deref() else {
        // It is the first one that the engine takes, and says if there is none.
        return Ok(backends.first().copied());
    };
    if let Some(found) = backends.iter().find(|backend| backend.name() == asked) {
        return Ok(Some(*found));
    }
    let names = backends.iter().map(|backend| backend.name());
    let hint = match nearest(asked, names) {
        Some(name) => format!("did you mean {name}?"),
        None => "agentkernel doctor shows those that there are".into(),
    };
    Err(CommandError::new(format!("there is no backend {asked:?} here"), hint))
}
