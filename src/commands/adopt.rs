//! `agentkernel adopt -B BACKEND [NAME...]`

use agentkernel_core::Backend;
use agentkernel_engine::{Adoptable, Engine};
use agentkernel_store::time;
use agentkernel_wire::{AdoptableEntry, AdoptableReport};

use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::output;

use super::sandboxes;

/// Takes sandboxes over, or shows which there are.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let engine = Engine::new(backends);
    let backend = low.spec.backend.as_deref();
    // Before there is a store.
    engine.expect_driver(backend)?;
    let all = sandboxes::open(&engine)?;
    if low.words.is_empty() {
        list(low, all.adoptable(backend)?)?;
        return Ok(0);
    }
    let mut status = 0;
    for word in &low.words {
        let name = sandboxes::name(word)?;
        match all.adopt(backend, name.as_str()) {
            Ok((record, unsaid)) => {
                output::line(record.name.as_str())?;
                if !unsaid.is_empty() {
                    let unsaid = output::shown(&unsaid.join(", "));
                    output::note(&format!(
                        "agentkernel: {} was created with variables that are not known here, which \
                         exec --env gives to a command: {unsaid}",
                        record.name
                    ));
                }
            }
            Err(error) => {
                output::error(error.into(), low.json);
                status = FAILED;
            }
        }
    }
    Ok(status)
}

fn list(low: &LowArgs, all: Vec<Adoptable>) -> Result<(), CommandError> {
    if low.json {
        let all = all.into_iter().map(entry).collect();
        return output::line(&AdoptableReport::new(all).to_json());
    }
    let mut rows = vec![["NAME", "ID", "IMAGE", "AGE", "HOLDER"].map(String::from)];
    rows.extend(all.iter().map(|one| {
        let [name, image, age] = match &one.known {
            Some(known) => {
                [known.name.to_string(), output::shown(&known.image), sandboxes::age(known.created)]
            }
            None => ["-"; 3].map(String::from),
        };
        [name, output::shown(&one.id), image, age, output::shown(&one.holder)]
    }));
    output::table(&rows)?;
    for one in all {
        if let Some(why) = &one.refused {
            let (id, why) = (output::shown(&one.id), output::shown(why));
            output::note(&format!("agentkernel: {id} can't be adopted: {why}"));
        }
    }
    Ok(())
}

fn entry(one: Adoptable) -> AdoptableEntry {
    let known = one.known.as_ref();
    AdoptableEntry {
        name: known.map(|known| known.name.to_string()),
        image: known.map(|known| known.image.clone()),
        created: known.map(|known| time::to_text(known.created)),
        id: one.id,
        holder: one.holder,
        refused: one.refused,
    }
}
