//! Pools that an engine keeps for all of its clients: `agentkernel pool ls | set | rm --shared`.

use std::ffi::{OsStr, OsString};

use agentkernel_core::{Backend, Shared};
use agentkernel_engine::{Engine, EngineError, demand_pool};
use agentkernel_wire::{PoolStatus, PoolsReport};

use super::{MOST, read_name, read_size};
use crate::commands::{spec, unexpected};
use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
    verb: &OsStr,
    rest: &[OsString],
) -> Result<u8, CommandError> {
    let engine = Engine::new(backends);
    let named = low.spec.backend.clone();
    let share = |backend: &dyn Backend, order: Shared<'_>| {
        backend.share(order).map_err(|error| CommandError::from(EngineError::from(error)))
    };
    match (verb.to_str(), rest) {
        (Some("ls" | "list"), []) => {
            let backend = engine.expect_driver(named.as_deref())?;
            list(backend, share(backend, Shared::List)?, low.json)
        }
        (Some("set"), [name, size]) => {
            let (name, size) = (read_name(name)?, read_size(size)?);
            let resolved = spec::resolve(&mut low, None, backends)?.resolved;
            let backend = engine.expect_driver(resolved.backend.as_deref())?;
            let spec = demand_pool(backend, &resolved.spec)?;
            share(backend, Shared::Set { name: name.as_str(), size, spec: &spec })?;
            output::line(name.as_str())?;
            Ok(0)
        }
        (Some("rm" | "remove"), names @ [_, ..]) => {
            let backend = engine.expect_driver(named.as_deref())?;
            for name in names {
                let name = read_name(name)?;
                share(backend, Shared::Remove { name: name.as_str() })?;
                output::line(name.as_str())?;
            }
            Ok(0)
        }
        (Some("set" | "rm" | "remove"), _) => Err(CommandError::new(
            "a shared pool is named, and set to a size",
            format!("as in agentkernel pool set quick 4 --shared; up to {MOST}"),
        )),
        (Some("ls" | "list"), [word, ..]) => Err(unexpected(Verb::Pool, word)),
        _ => Err(unexpected(Verb::Pool, verb)),
    }
}

fn list(
    backend: &dyn Backend,
    all: Vec<agentkernel_core::SharedPool>,
    json: bool,
) -> Result<u8, CommandError> {
    if json {
        let status = |pool: agentkernel_core::SharedPool| PoolStatus {
            name: pool.name,
            backend: backend.name().to_owned(),
            size: pool.size,
            ready: pool.ready,
            ..PoolStatus::default()
        };
        let all = all.into_iter().map(status).collect();
        output::line(&PoolsReport::new(true, all).to_json())?;
        return Ok(0);
    }
    let mut rows = vec![["NAME", "BACKEND", "SIZE", "READY"].map(str::to_owned)];
    rows.extend(all.into_iter().map(|pool| {
        [pool.name, backend.name().to_owned(), pool.size.to_string(), pool.ready.to_string()]
    }));
    output::table(&rows)?;
    Ok(0)
}
