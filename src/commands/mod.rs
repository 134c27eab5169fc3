//! The verbs, one file each.

mod adopt;
mod apply;
mod attach;
mod audit;
mod bench;
mod completions;
mod cp;
mod create;
mod daemon;
mod diff;
mod doctor;
mod events;
mod exec;
mod export;
mod fork;
mod help;
mod image;
mod inspect;
mod kill;
mod logs;
mod module;
mod pause;
mod pool;
mod port;
mod prune;
mod ps;
mod rename;
mod reports;
mod rm;
mod run;
mod sandboxes;
mod setup;
mod snapshot;
mod spec;
mod start;
mod stop;
mod tell;
mod unpause;
mod wait;

use std::env;
use std::os::unix::process::CommandExt;

use agentkernel_core::{Backend, Capability};
use agentkernel_engine::Engine;

use crate::Hands;
use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::news;
use crate::verbs::Verb;

/// Does what a verb says and returns the exit status.
pub(crate) fn dispatch(
    verb: Verb,
    low: LowArgs,
    Hands { backends, porter }: Hands,
) -> Result<u8, CommandError> {
    // They are about every backend there is.
    if matches!(verb, Verb::Doctor | Verb::Prune) && daemon::program().is_ok() {
        let engine = Engine::new(backends);
        backends.iter().try_for_each(|one| engine.expect_driver(Some(one.name())).map(drop))?;
    }
    if backends.iter().any(|one| one.can_provide() && has_images(*one)) {
        news::listen(low.json, low.verbose);
    }
    match verb {
        Verb::Run => run::run(low, backends),
        Verb::Create => create::run(low, backends),
        Verb::Start => start::run(&low, backends),
        Verb::Stop => stop::run(&low, backends),
        Verb::Rm => rm::run(&low, backends),
        Verb::Pause => pause::run(&low, backends),
        Verb::Unpause => unpause::run(&low, backends),
        Verb::Rename => rename::run(&low, backends),
        Verb::Wait => wait::run(&low, backends),
        Verb::Exec => exec::run(low, backends),
        Verb::Ps => ps::run(&low, backends),
        Verb::Kill => kill::run(&low, backends),
        Verb::Logs => logs::run(&low, backends),
        Verb::Attach => attach::run(&low, backends),
        Verb::Port => port::run(&low, backends),
        Verb::Inspect => inspect::run(&low, backends),
        Verb::Events => events::run(&low),
        Verb::Audit => audit::run(low),
        Verb::Prune => prune::run(&low, backends),
        Verb::Cp => cp::run(&low, backends),
        Verb::Diff => diff::run(&low, backends),
        Verb::Apply => apply::run(&low, backends),
        Verb::Export => export::run(&low, backends),
        Verb::Snapshot => snapshot::run(&low, backends),
        Verb::Image => image::run(low, backends, porter),
        Verb::Adopt => adopt::run(&low, backends),
        Verb::Fork => fork::run(&low, backends),
        Verb::Setup => setup::run(&low),
        Verb::Doctor => doctor::run(&low, backends),
        Verb::Completions => completions::run(&low, backends),
        Verb::Help => help::run(&low),
        Verb::Pool => pool::run(low, backends),
        Verb::Daemon => daemon::run(&low),
        Verb::Bench => bench::run(low, backends),
    }
}

/// Whether it fetches and builds images, which takes its time.
fn has_images(backend: &dyn Backend) -> bool {
    backend.capabilities().has(Capability::ImageReference)
}

/// Has agentkerneld do what this program can't, in its place. Returns only why that is not to be.
pub(crate) fn hand_over(error: CommandError) -> CommandError {
    match daemon::program() {
        // By that name it is the command line, with every backend.
        Ok(mut program) => {
            let words = env::args_os().skip(1);
            daemon::failed("start agentkerneld", &program.arg0("agentkernel").args(words).exec())
        }
        Err(missing) => CommandError { message: error.message, ..missing },
    }
}

/// The error for a word that a verb doesn't take.
fn unexpected(verb: Verb, word: &std::ffi::OsStr) -> CommandError {
    let info = verb.info();
    CommandError::new(
        format!("{} doesn't take {word:?}", info.name),
        format!("the form is agentkernel {} {}", info.name, info.usage),
    )
}
