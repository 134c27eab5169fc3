//! `agentkernel pool ls | set NAME SIZE [FLAGS] | rm NAME...`

use std::ffi::{OsStr, OsString};
use std::mem;

use agentkernel_core::{Backend, Spec};
use agentkernel_engine::{Engine, EngineError, Journal, ask, demand_pool, pool_key};
use agentkernel_store::audit::{Entry, Kind};
use agentkernel_store::{Dirs, Name, Pool, Store};
use agentkernel_wire::{DaemonReply, DaemonRequest, PoolStatus, PoolsReport, SpecRecord};
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;
use crate::{home, output};

use super::spec::{self, FilesPool, FilesPools};
use super::unexpected;

mod shared;

/// The most sandboxes that one pool holds.
const MOST: u32 = 4096;

pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let words = mem::take(&mut low.words);
    let [verb, rest @ ..] = words.as_slice() else {
        return Err(CommandError::new("no verb was given", "use pool ls, pool set or pool rm"));
    };
    if low.shared {
        return shared::run(low, backends, verb, rest);
    }
    let dirs = home::dirs()?;
    match (verb.to_str(), rest) {
        (Some("ls" | "list"), []) => list(&dirs, low.json),
        (Some("set"), [name, size]) => set(low, backends, &dirs, name, size),
        (Some("set"), _) => Err(CommandError::new(
            "pool set takes a name and a size",
            "as in agentkernel pool set quick 4 --profile restrictive",
        )),
        (Some("rm" | "remove"), [_, ..]) => remove(&dirs, rest),
        (Some("rm" | "remove"), []) => {
            Err(CommandError::new("no pool was named", "agentkernel pool ls shows all of them"))
        }
        (Some("ls" | "list"), [word, ..]) => Err(unexpected(Verb::Pool, word)),
        _ => Err(unexpected(Verb::Pool, verb)),
    }
}

fn set(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
    dirs: &Dirs,
    name: &OsStr,
    size: &OsStr,
) -> Result<u8, CommandError> {
    let (name, size) = (read_name(name)?, read_size(size)?);
    let mut resolved = spec::resolve(&mut low, None, backends)?.resolved;
    let engine = Engine::new(backends);
    let backend = engine.select(resolved.backend.as_deref())?;
    demand_pool(backend, &resolved.spec)?;
    // The daemon has nobody to whom it could tell how far a pull is, and no time for one.
    engine.provide(resolved.backend.as_deref(), &mut resolved.spec, &resolved.provision)?;
    let part = demand_pool(backend, &resolved.spec)?;
    let spec = SpecRecord::from(&part).to_json();
    let (backend, max_age) = (backend.name().to_owned(), low.max_age);
    let pool = Pool { name: name.clone(), size, backend, spec, max_age };
    if let Some(other) = twin(&store(dirs)?, &pool)? {
        return Err(CommandError::new(
            format!("the pool {other} holds sandboxes of the same spec"),
            format!("change its size with agentkernel pool set {other} {size}, or remove it first"),
        ));
    }
    keep(dirs, &pool)?;
    tell_daemon(dirs)?;
    output::line(name.as_str())?;
    Ok(0)
}

fn keep(dirs: &Dirs, pool: &Pool) -> Result<(), CommandError> {
    store(dirs)?.set_pool(pool).map_err(store_error)?;
    note(dirs, json!({ "set": pool.name.as_str(), "size": pool.size }))
}

/// Has a running daemon hold the pool of the settings files that would have served a run of
/// `spec`, if they have one. What can't be had is only told: the run itself has been done.
pub(super) fn hold_for_next(dirs: &Dirs, backend: &dyn Backend, spec: &Spec, pools: FilesPools) {
    for pool in pools.resolve() {
        let held = pool.and_then(|pool| hold(dirs, backend, spec, pool));
        if let Err(error) = held {
            output::note(&format!("agentkernel: a pool of the settings can't be held: {error}"));
        }
    }
}

fn hold(
    dirs: &Dirs,
    backend: &dyn Backend,
    spec: &Spec,
    wanted: FilesPool,
) -> Result<(), CommandError> {
    let FilesPool { name, size, max_age, spec: mut own } = wanted;
    // As the run's own spec is.
    backend.pin(&mut own).map_err(EngineError::from)?;
    let (Some(key), Some(part)) = (pool_key(backend, &own), backend.pool_part(&own)) else {
        return Ok(());
    };
    let asked = ask(&dirs.daemon_socket(), &DaemonRequest::Status);
    if Some(&key) != pool_key(backend, spec).as_ref() || asked.is_err() {
        return Ok(());
    }
    // Other projects have pools of that name too, which hold something else.
    let name = read_name(OsStr::new(&format!("{name}-{}", &key[..8])))?;
    let (backend, spec) = (backend.name().to_owned(), SpecRecord::from(&part).to_json());
    let pool = Pool { name, size, backend, spec, max_age };
    let store = store(dirs)?;
    let known = store.list_pools().map_err(store_error)?;
    if known.contains(&pool) || twin(&store, &pool)?.is_some() {
        return Ok(());
    }
    keep(dirs, &pool)?;
    tell_daemon(dirs)
}

/// Another pool of the same spec. A run could not tell them apart.
fn twin(store: &Store, pool: &Pool) -> Result<Option<Name>, CommandError> {
    let all = store.list_pools().map_err(store_error)?;
    let same = |other: &&Pool| (&other.backend, &other.spec) == (&pool.backend, &pool.spec);
    Ok(all.iter().filter(|other| other.name != pool.name).find(same).map(|twin| twin.name.clone()))
}

fn remove(dirs: &Dirs, names: &[OsString]) -> Result<u8, CommandError> {
    let store = store(dirs)?;
    for name in names {
        let name = read_name(name)?;
        store.remove_pool(name.as_str()).map_err(store_error)?;
        note(dirs, json!({ "removed": name.as_str() }))?;
        output::line(name.as_str())?;
    }
    tell_daemon(dirs)?;
    Ok(0)
}

fn list(dirs: &Dirs, json: bool) -> Result<u8, CommandError> {
    let wanted = match Store::open_existing(dirs).map_err(store_error)? {
        Some(store) => store.list_pools().map_err(store_error)?,
        None => Vec::new(),
    };
    let (held, daemon) = match ask(&dirs.daemon_socket(), &DaemonRequest::Status) {
        Ok((_, DaemonReply::Status(status))) => (status.pools, true),
        _ => (Vec::new(), false),
    };
    let all: Vec<PoolStatus> = wanted
        .into_iter()
        .map(|pool| match held.iter().find(|held| held.name == pool.name.as_str()) {
            Some(held) => held.clone(),
            None => PoolStatus {
                name: pool.name.to_string(),
                backend: pool.backend,
                size: pool.size.into(),
                ..PoolStatus::default()
            },
        })
        .collect();
    if json {
        output::line(&PoolsReport::new(daemon, all).to_json())?;
        return Ok(0);
    }
    let heads = ["NAME", "BACKEND", "SIZE", "READY", "BOOTING", "HANDED-OUT", "EMPTY", "FAILURES"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(all.iter().map(|pool| {
        [
            pool.name.clone(),
            pool.backend.clone(),
            pool.size.to_string(),
            pool.ready.to_string(),
            pool.booting.to_string(),
            pool.handed_out.to_string(),
            pool.empty.to_string(),
            pool.failures.to_string(),
        ]
    }));
    output::table(&rows)?;
    for pool in &all {
        if let Some(why) = &pool.last_failure {
            output::note(&format!("agentkernel: {}: {why}", pool.name));
        }
    }
    if !daemon && !all.is_empty() {
        output::note("agentkernel: no daemon is running, so nothing is ready");
    }
    Ok(0)
}

/// Has a running daemon look at the pools again. One that starts later does so by itself.
fn tell_daemon(dirs: &Dirs) -> Result<(), CommandError> {
    match ask(&dirs.daemon_socket(), &DaemonRequest::Reload) {
        Ok((_, DaemonReply::Failed { why })) => {
            Err(CommandError::new(why, "agentkernel daemon status tells how it is"))
        }
        Ok(_) => Ok(()),
        Err(_) => {
            output::note(
                "agentkernel: no daemon is running; agentkernel daemon start -b starts one",
            );
            Ok(())
        }
    }
}

fn note(dirs: &Dirs, detail: Value) -> Result<(), CommandError> {
    let journal = Journal::new(dirs, home::CLIENT);
    let entry = Entry { detail, ..Entry::new(Kind::Pool, journal.who()) };
    Ok(journal.append(entry)?)
}

fn read_size(size: &OsStr) -> Result<u32, CommandError> {
    let size = size.to_str().and_then(|size| size.parse().ok()).filter(|size| *size <= MOST);
    size.ok_or_else(|| {
        CommandError::new(
            "the size of a pool is a number of sandboxes",
            format!("give one from 0 to {MOST}"),
        )
    })
}

fn read_name(name: &OsStr) -> Result<Name, CommandError> {
    Name::try_from(name.to_string_lossy().into_owned())
        .map_err(|error| CommandError::new(error.to_string(), error.hint()))
}

fn store(dirs: &Dirs) -> Result<Store, CommandError> {
    Store::open(dirs).map_err(store_error)
}

fn store_error(error: agentkernel_store::StoreError) -> CommandError {
    CommandError::new(error.to_string(), error.hint())
}
