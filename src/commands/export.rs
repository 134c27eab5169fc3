//! `agentkernel export [-o FILE] NAME`

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use agentkernel_core::Backend;
use agentkernel_engine::files::LeftOut;
use agentkernel_engine::{Engine, Sandboxes};
use agentkernel_store::Name;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{cp, reports, sandboxes};

/// Packs what a sandbox has changed. What an image's layer can't hold is named, which is no failure.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let name = sandboxes::only_name(Verb::Export, low)?;
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    let left_out = match low.output.as_deref() {
        Some(path) if path != Path::new("-") => to_file(&all, &name, path)?,
        _ => {
            cp::refuse_terminal()?;
            all.export(name.as_str(), io::stdout().lock())?
        }
    };
    for LeftOut { path, what } in left_out {
        let path = output::shown(&path.to_string_lossy());
        output::note(&format!("agentkernel: left out {path}: a {what}"));
    }
    Ok(0)
}

/// A file is there whole or not at all.
fn to_file(all: &Sandboxes<'_>, name: &Name, path: &Path) -> Result<Vec<LeftOut>, CommandError> {
    // Whoever does not know the sandbox gets no file.
    all.find(name.as_str())?;
    let unwritable = |err: io::Error| {
        CommandError::new(
            format!("{} can't be written: {err}", path.display()),
            "name a file that you may write, on a disk with room",
        )
    };
    let mut file = io::BufWriter::new(reports::create(path).map_err(unwritable)?);
    let packed = all.export(name.as_str(), &mut file).map_err(CommandError::from);
    let packed = packed.and_then(|left_out| file.flush().map(|()| left_out).map_err(unwritable));
    if packed.is_err() && path.is_file() {
        // Why it failed matters more than that a part of it stays.
        let _ = fs::remove_file(path);
    }
    packed
}
