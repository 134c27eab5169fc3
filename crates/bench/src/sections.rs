//! What is measured of a backend, part by part.

mod hand_out;
mod living;
mod memory;
mod phases;
mod pool;

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::control::Control;
use crate::crowd::crowd;
use crate::process::Stopwatch;
use crate::report::section_name;
use crate::result::{COLD, Case, OURS, Section};
use crate::tool::Tool;
use crate::turns::{Entrant, found, take_turns};
use crate::world::World;
use crate::{COMMAND, OUTPUT};

pub use hand_out::hand_out;
pub use living::{execs, lifecycle};
pub use memory::memory;
pub use phases::phases;
pub use pool::Filled;

/// Uncounted rounds before those that count.
pub const WARM_UP: u64 = 3;

/// Whoever can run the command.
pub struct Runner<'a> {
    /// A case of theirs, with nothing in it.
    pub case: Case,
    pub command: Box<dyn Fn() -> Command + Sync + 'a>,
    /// How long the machine has to itself before each turn, and eight times as long before many at
    /// once: an engine clears away after whoever has left, which must not be at the cost of who comes
    /// next.
    pub rest: Duration,
}

impl<'a> Runner<'a> {
    pub fn new(
        backend: &str,
        tool: &str,
        route: &str,
        command: impl Fn() -> Command + Sync + 'a,
    ) -> Self {
        let case = Case {
            backend: backend.to_owned(),
            tool: tool.to_owned(),
            route: route.to_owned(),
            at_once: 1,
            ..Case::default()
        };
        Self { case, command: Box::new(command), rest: Duration::ZERO }
    }

    fn case(&self, section: Section, group: &str) -> Case {
        Case { section, group: group.to_owned(), ..self.case.clone() }
    }
}

/// Has all runners run the command in turn, so many times each. With a pool, it is full whenever
/// a batch of rounds begins, and not low before the batch is over.
pub fn in_turn(
    section: Section,
    group: &str,
    runners: &[Runner<'_>],
    rounds: u64,
    pool: Option<&Filled<'_>>,
    control: &Control,
) -> Result<Vec<Case>, String> {
    control.begin(format!("{} {group}", section_name(section)), rounds);
    let entrants = runners.iter().map(|runner| entrant(runner, section, group));
    let entrants = entrants.collect::<Result<Vec<_>, String>>()?;
    take_turns(entrants, rounds, WARM_UP, control, |round| match pool {
        Some(pool) if round % pool.batch() == 0 => pool.await_full(),
        _ => Ok(()),
    })
}

fn entrant<'s>(
    runner: &'s Runner<'_>,
    section: Section,
    group: &str,
) -> Result<Entrant<'s>, String> {
    let mut watch = Stopwatch::new().map_err(|error| format!("can't make a file: {error}"))?;
    let attempt = move || {
        rest(runner.rest);
        watch.time(&mut (runner.command)(), Some(OUTPUT)).map(found)
    };
    Ok(Entrant::new(runner.case(section, group), attempt))
}

#[expect(clippy::disallowed_methods, reason = "engines tell nobody when they have cleared away")]
fn rest(time: Duration) {
    if !time.is_zero() {
        thread::sleep(time);
    }
}

/// Has a runner run the command so many times, so many at once. It has the machine to itself, so
/// there are no rounds in which it could be paired with others.
pub fn at_once(
    section: Section,
    runner: &Runner<'_>,
    count: u64,
    at_once: u64,
    control: &Control,
) -> Case {
    let name = section_name(section);
    control.begin(format!("{name} {} {at_once} at once", runner.case.tool), count);
    let attempt =
        |watch: &mut Stopwatch, _| watch.time(&mut (runner.command)(), Some(OUTPUT)).map(found);
    let mut case = runner.case(section, "");
    case.at_once = at_once;
    rest(8 * runner.rest);
    match crowd(count, at_once, &|_| control.advance(), &|| control.is_stopped(), &attempt) {
        Ok((over, wall)) => {
            case.wall_ns = wall.as_nanos() as u64;
            over.into_values().for_each(|outcome| case.add(outcome));
        }
        Err(error) => case.add(Err(error.to_string())),
    }
    case
}

/// What is measured in turn has this name in common.
pub fn group(backend: &str, route: &str) -> String {
    format!("{backend} {route}")
}

/// How many go on at once, from few to many: 5, 10, 20, 50, ... up to the most.
pub fn levels(most: u64) -> impl Iterator<Item = u64> {
    let all = (0..).flat_map(|power| [5, 10, 20].map(|step| step * 10_u64.pow(power)));
    all.take_while(move |level| *level <= most)
}

/// agentkernel's words for the command in a sandbox of its own.
pub fn run<'w>(world: &'w World, backend: &str, route: &str) -> Runner<'w> {
    let mut words = vec!["run".to_owned(), "-B".to_owned(), backend.to_owned()];
    if route == COLD {
        words.push("--no-pool".to_owned());
    }
    words.push("--".to_owned());
    words.extend(COMMAND.iter().map(|word| (*word).to_owned()));
    Runner::new(backend, OURS, route, move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.agentkernel(&words)
    })
}

/// Has agentkernel run the command once, uncounted, and tells what is in the way of that.
pub fn try_out(world: &World, backend: &str) -> Result<(), String> {
    let words = [&["run", "-B", backend, "--no-pool", "--"], COMMAND].concat();
    let printed = world.must(&words).map_err(|error| error.to_string())?;
    if printed == OUTPUT { Ok(()) } else { Err(format!("its output was {printed:?}")) }
}

impl Tool<'_> {
    /// The tool as one that runs the command in a sandbox of its own.
    pub fn runner(&self, backend: &str) -> Runner<'_> {
        // The bare process is no backend's.
        let of = if self.is_process() { self.name() } else { backend };
        Runner::new(of, self.name(), "", || self.run())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn levels_grow_in_steps_that_people_expect() {
        assert_eq!(super::levels(120).collect::<Vec<_>>(), [5, 10, 20, 50, 100]);
        assert_eq!(super::levels(4).count(), 0);
    }
}
