//! From flags and all that lies under them to a spec, for every verb that makes a sandbox.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::mem;
use std::path::PathBuf;

use agentkernel_core::Backend;
use agentkernel_wire::{Caller, Environment, Resolved, SpecRequest, nearest};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::settings::ReadFiles;
use crate::{machine, settings};

/// Resolves what is asked for. Also returns the settings files that were read.
pub(super) fn resolve(
    low: &mut LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<(Resolved, Vec<PathBuf>), CommandError> {
    let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    let flags = mem::take(&mut low.spec);
    let settings = settings::gather(flags, &low.env_files, read_files(low), &variables)?;
    check_backend(&settings.request, backends)?;
    let machine = machine::facts();
    let caller = Caller { variables: &variables, machine };
    Ok((settings.request.resolve(&caller)?, settings.files))
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

fn check_backend(
    request: &SpecRequest,
    backends: &'static [&'static dyn Backend],
) -> Result<(), CommandError> {
    let names = || backends.iter().map(|backend| backend.name());
    let asked = match request.backend.as_deref() {
        Some(asked) if !names().any(|name| name == asked) => asked,
        _ => return Ok(()),
    };
    let hint = match nearest(asked, names()) {
        Some(name) => format!("did you mean {name}?"),
        None => "agentkernel doctor shows those that there are".into(),
    };
    Err(CommandError::new(format!("there is no backend {asked:?} here"), hint))
}
