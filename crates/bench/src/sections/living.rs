//! Sandboxes that live: their lives step by step, and commands in a row in one of each.

use std::process::Command;

use super::{Runner, in_turn};
use crate::COMMAND;
use crate::control::Control;
use crate::lives::{Lives, Subject, lives};
use crate::process::Stopwatch;
use crate::report::section_name;
use crate::result::{Case, OURS, Section};
use crate::tool::{Step, Tool};
use crate::world::World;

/// How a command comes to a sandbox that lives.
const LIVE: &str = "live";

/// So many lives of agentkernel's sandboxes and of each tool's, in turn.
pub fn lifecycle(
    world: &World,
    backend: &str,
    tools: &[Tool<'_>],
    count: u64,
    control: &Control,
) -> Result<Vec<Case>, String> {
    control.begin(section_name(Section::Lifecycle), count);
    let with_life = tools.iter().filter(|tool| tool.has_life()).map(Some);
    let subjects: Vec<Subject<'_>> =
        [None].into_iter().chain(with_life).map(|tool| Subject { backend, tool }).collect();
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
                    *empty = Some(Case {
                        group: format!("{backend} {LIVE}"),
                        route: LIVE.into(),
                        ..life
                    })
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
    let with_life = tools.iter().filter(|tool| tool.has_life()).map(Some);
    let all = [None].into_iter().chain(with_life);
    let living =
        all.map(|tool| Living::start(world, backend, tool)).collect::<Result<Vec<_>, String>>()?;
    let process = tools.iter().take(1).map(|tool| tool.runner(backend));
    let runners: Vec<Runner<'_>> = process.chain(living.iter().map(Living::runner)).collect();
    in_turn(Section::Exec, &format!("{backend} {LIVE}"), &runners, count, None, control)
}

/// A sandbox that lives until this is dropped.
struct Living<'a> {
    world: &'a World,
    backend: &'a str,
    tool: Option<&'a Tool<'a>>,
}

/// Its name.
const NAME: &str = "lives-on";

impl<'a> Living<'a> {
    fn start(
        world: &'a World,
        backend: &'a str,
        tool: Option<&'a Tool<'a>>,
    ) -> Result<Self, String> {
        // From here on its drop removes what there is.
        let living = Self { world, backend, tool };
        let steps: Vec<Command> = match tool {
            None => vec![world.agentkernel(&["create", "--start", "-B", backend, NAME])],
            Some(tool) => {
                [Step::Create, Step::Start].iter().filter_map(|s| tool.step(*s, NAME)).collect()
            }
        };
        let mut stopwatch = Stopwatch::new().map_err(|error| error.to_string())?;
        for mut step in steps {
            stopwatch.time_unread(&mut step)?;
        }
        Ok(living)
    }

    fn runner(&self) -> Runner<'_> {
        let name = self.tool.map_or(OURS, Tool::name);
        Runner::new(self.backend, name, LIVE, || match self.tool {
            // One without the step would have no life.
            Some(tool) => tool.step(Step::Exec, NAME).unwrap_or_else(|| tool.run()),
            None => self.world.agentkernel(&[&["exec", NAME, "--"], COMMAND].concat()),
        })
    }
}

impl Drop for Living<'_> {
    fn drop(&mut self) {
        let steps: Vec<Command> = match self.tool {
            None => vec![self.world.agentkernel(&["rm", "-f", NAME])],
            Some(tool) => {
                [Step::Stop, Step::Remove].iter().filter_map(|s| tool.step(*s, NAME)).collect()
            }
        };
        // What can't be removed now goes with the world, or shows as left behind.
        if let Ok(mut stopwatch) = Stopwatch::new() {
            steps.into_iter().for_each(|mut step| _ = stopwatch.time_unread(&mut step));
        }
    }
}
