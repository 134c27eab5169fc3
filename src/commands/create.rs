//! `agentkernel create [FLAGS] [NAME]`

use std::mem;

use agentkernel_core::{Backend, Spec};
use agentkernel_engine::{Engine, NewSandbox, Sandboxes};
use agentkernel_store::Name;
use agentkernel_wire::{SpecRequest, resolve_ports};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;
use crate::{output, settings};

use super::{sandboxes, spec, unexpected};

/// Makes a sandbox and prints its name.
pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let name = asked_name(&mut low)?;
    let engine = Engine::new(backends);
    let (all, made) = match low.from.take() {
        Some(from) => from_snapshot(&mut low, &engine, &from)?,
        None => {
            let mut resolved = spec::resolve(&mut low, None, backends)?.resolved;
            let (name, provision) = (resolved.backend.as_deref(), &resolved.provision);
            engine.settle_image(name, &mut resolved.spec, provision)?;
            let made = Made { backend: resolved.backend, spec: resolved.spec, origin: None };
            (sandboxes::open(&engine)?, made)
        }
    };
    if low.start {
        engine.expect_driver(made.backend.as_deref())?;
    }
    let record = all.create(NewSandbox {
        name,
        backend: made.backend,
        spec: made.spec,
        labels: mem::take(&mut low.labels),
        ttl: low.ttl,
        idle: low.idle,
        origin: made.origin,
    })?;
    if low.start {
        start(&all, record.id.as_str())?;
    }
    output::line(record.name.as_str())?;
    Ok(0)
}

/// What a sandbox is made of.
struct Made {
    backend: Option<String>,
    spec: Spec,
    origin: Option<String>,
}

/// A sandbox from a snapshot is made as that was. No settings are read for it, and only variables
/// may be given, and ports in place of its own.
fn from_snapshot<'a>(
    low: &mut LowArgs,
    engine: &'a Engine,
    from: &Name,
) -> Result<(Sandboxes<'a>, Made), CommandError> {
    let flags = mem::take(&mut low.spec);
    let backend = flags.backend.clone();
    let ports = flags.ports.clone();
    let mut variables = SpecRequest { env: flags.env.clone(), ports, ..SpecRequest::default() };
    if flags != (SpecRequest { backend: backend.clone(), ..variables.clone() }) {
        return Err(CommandError::new(
            "--from makes a sandbox as its snapshot was made",
            "leave out all that says otherwise; --env, --publish, --label, --ttl and --idle may be \
             given",
        ));
    }
    settings::lay_over_env_files(&mut variables, &low.env_files)?;
    let all = sandboxes::open(engine)?;
    let (snapshot, mut spec) = all.snapshot(from.as_str())?;
    if !variables.ports.is_empty() {
        spec.ports = resolve_ports(variables.ports)?;
    }
    spec.environment.extend(spec::given_variables(variables.env));
    let origin = Some(snapshot.id.to_string());
    Ok((all, Made { backend, spec, origin }))
}

/// Starts the new sandbox. If that fails there is none.
fn start(all: &Sandboxes<'_>, id: &str) -> Result<(), CommandError> {
    let Err(error) = all.start(id) else { return Ok(()) };
    // Why it could not be started matters more than what else goes wrong.
    let _ = all.remove(id, true);
    Err(error.into())
}

/// The name as a word or by `--name`, which is Docker's way.
fn asked_name(low: &mut LowArgs) -> Result<Option<Name>, CommandError> {
    match (low.words.as_slice(), low.name.take()) {
        ([], name) => Ok(name),
        ([word], None) => sandboxes::name(word).map(Some),
        ([word], Some(_)) | ([_, word, ..], _) => Err(unexpected(Verb::Create, word)),
    }
}
