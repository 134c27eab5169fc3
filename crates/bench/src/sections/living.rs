//! Sandboxes that live: their lives step by step, and commands in a row in one of each.

use super::{Runner, group, in_turn};
use crate::control::Control;
use crate::lives::{Lives, Subject, lives};
use crate::process::Stopwatch;
use crate::report::section_name;
use crate::result::{Case, LIVE, Section};
use crate::tool::{Step, Tool};
use crate::world::World;

/// So many lives of agentkernel's sandboxes and of each tool's, in turn.
pub fn lifecycle(
    world: &World,
    backend: &str,
    tools: &[Tool<'_>],
    count: u64,
    control: &Control,
) -> Result<Vec<Case>, String> {
    control.begin(section_name(Section::Lifecycle), count);
    let subjects = subjects(backend, tools);
    let one = Lives { section: Section::Lifecycle, count: 1, at_once: 1, execs: 1 };
    let mut all: Vec<Option<Case>> = vec![None; subjects.len()];
    for round in 0..count as usize {
        for at in 0..subjects.len() {
            let at = (at + round) % subjects.len();
            if control.is_stopped() {
                break;
            }
            let life = lives(world, &subjects[at], &one, &|_| {}, &|| control.is_stopped())
                .map_err(|error| error.to_string())?;
            match &mut all[at] {
                Some(case) => case.absorb(life),
                empty => {
                    *empty = Some(Case { group: group(backend, LIVE), route: LIVE.into(), ..life })
                }
            }
        }
        control.advance();
    }
    Ok(all.into_iter().flatten().collect())
}

/// So many commands in a sandbox of agentkernel's and in one of each tool's, in turn with the bare
/// process.
pub fn execs(
    world: &World,
    backend: &str,
    tools: &[Tool<'_>],
    count: u64,
    control: &Control,
) -> Result<Vec<Case>, String> {
    let living = subjects(backend, tools).into_iter();
    let living = living.map(|subject| Living::start(world, subject));
    let living = living.collect::<Result<Vec<_>, String>>()?;
    let process = tools.iter().take(1).map(|tool| tool.runner(backend));
    let runners: Vec<Runner<'_>> =
        process.chain(living.iter().filter_map(Living::runner)).collect();
    in_turn(Section::Exec, &group(backend, LIVE), &runners, count, None, control)
}

/// agentkernel, and each tool whose sandboxes live.
fn subjects<'t>(backend: &'t str, tools: &'t [Tool<'t>]) -> Vec<Subject<'t>> {
    let with_life = tools.iter().filter(|tool| tool.has_life()).map(Some);
    [None].into_iter().chain(with_life).map(|tool| Subject { backend, tool }).collect()
}

/// A sandbox that lives until this is dropped.
struct Living<'a> {
    world: &'a World,
    subject: Subject<'a>,
    name: String,
}

impl<'a> Living<'a> {
    fn start(world: &'a World, subject: Subject<'a>) -> Result<Self, String> {
        // From here on its drop removes what there is.
        // Two tools may have the same engine.
        let name = world.name(&format!("{}-lives-on", subject.name()));
        let living = Self { world, subject, name };
        let mut stopwatch = Stopwatch::new().map_err(|error| error.to_string())?;
        for step in [Step::Create, Step::Start] {
            if let Some(mut command) = subject.step(world, step, &living.name) {
                stopwatch.time_unread(&mut command)?;
            }
        }
        Ok(living)
    }

    /// None if the tool can't run commands in it.
    fn runner(&self) -> Option<Runner<'_>> {
        let exec = || self.subject.step(self.world, Step::Exec, &self.name);
        exec()?;
        let Subject { backend, .. } = self.subject;
        Some(Runner::new(backend, self.subject.name(), LIVE, move || {
            exec().unwrap_or_else(|| unreachable!("it has the step"))
        }))
    }
}

impl Drop for Living<'_> {
    fn drop(&mut self) {
        self.subject.clean_up(self.world, &self.name);
    }
}
