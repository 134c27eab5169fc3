//! The lives of many sandboxes, each step a whole process.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::crowd::crowd;
use crate::result::{Case, Failure, OURS, Section};
use crate::tool::Step;
use crate::{COMMAND, OUTPUT, Stopwatch, Tool, World};

/// Whose sandboxes they are.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The backend of agentkernel's, or the one beside which the tool is measured.
    pub backend: &'a str,
    /// A tool with a life; none for agentkernel itself.
    pub tool: Option<&'a Tool<'a>>,
}

/// How many lives, and what happens in each.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// Where the result belongs: [`Section::Lifecycle`] or [`Section::Stress`].
    pub section: Section,
    pub count: u64,
    /// How many go on at the same time; never more than there are.
    pub at_once: u64,
    /// How many commands run in each, one after the other.
    pub execs: u64,
}

/// What was measured of one life: the samples of its steps, in their order.
type Life = Result<Vec<(Step, Duration)>, String>;

/// Has sandboxes live, and measures each step of each life.
///
/// A life in which a step fails counts as one failure: none of its samples are kept, its sandbox is
/// removed, and the others go on. When `stop` says so, no life begins any more, those that go on
/// are lived to their end, and one that fails then does not count. `progress` is told how many
/// lives are over; both are called by the calling thread only, after each life.
///
/// A life's `total` is the sum of its steps. Where it has several commands, `exec` has as many
/// samples for each life, next to each other.
pub fn lives(
    world: &World,
    subject: &Subject<'_>,
    lives: &Lives,
    progress: &dyn Fn(u64),
    stop: &dyn Fn() -> bool,
) -> io::Result<Case> {
    let live = |stopwatch: &mut Stopwatch, number: u64| {
        One { world, subject, stopwatch }.live(&world.name(&format!("life-{number}")), lives.execs)
    };
    let (over, wall) = crowd(lives.count, lives.at_once, progress, stop, &live)?;
    Ok(Case {
        section: lives.section,
        backend: subject.backend.to_owned(),
        tool: subject.name().to_owned(),
        at_once: lives.at_once.min(lives.count),
        wall_ns: nanoseconds(wall),
        values: BTreeMap::from([("execs".to_owned(), lives.execs as f64)]),
        ..counted(over, lives.execs)
    })
}

impl Subject<'_> {
    /// The name of the tool.
    pub fn name(&self) -> &str {
        self.tool.map_or(OURS, Tool::name)
    }

    /// Takes a step in the life of the sandbox of this name; none where the tool has no such step.
    pub fn step(&self, world: &World, step: Step, name: &str) -> Option<Command> {
        if let Some(tool) = self.tool {
            return tool.step(step, name);
        }
        let words = match step {
            Step::Create => vec!["create", "-B", self.backend, name],
            Step::Start => vec!["start", name],
            Step::Exec => [&["exec", name, "--"], COMMAND].concat(),
            Step::Stop => vec!["stop", name],
            Step::Remove => vec!["rm", name],
        };
        Some(world.agentkernel(&words))
    }

    /// Ends and removes a sandbox as far as there is one. What is not there can't be removed.
    pub fn clean_up(&self, world: &World, name: &str) {
        let last = match self.tool {
            Some(_) => [Step::Stop, Step::Remove].map(|step| self.step(world, step, name)),
            None => [Some(world.agentkernel(&["rm", "-f", name])), None],
        };
        for mut command in last.into_iter().flatten() {
            let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = quiet.status();
        }
    }
}

/// What lives one life.
struct One<'a> {
    world: &'a World,
    subject: &'a Subject<'a>,
    stopwatch: &'a mut Stopwatch,
}

impl One<'_> {
    fn live(&mut self, name: &str, execs: u64) -> Life {
        let mut samples = Vec::new();
        for step in Step::ALL {
            let times = if step == Step::Exec { execs } else { 1 };
            for _ in 0..times {
                let Some(command) = self.subject.step(self.world, step, name) else { continue };
                match self.take(step, command) {
                    Ok(took) => samples.push((step, took)),
                    Err(why) => {
                        self.subject.clean_up(self.world, name);
                        // The same failures of many are to count as one kind.
                        return Err(format!("{}: {}", step.name(), why.replace(name, "NAME")));
                    }
                }
            }
        }
        Ok(samples)
    }

    fn take(&mut self, step: Step, mut command: Command) -> Result<Duration, String> {
        match step {
            Step::Exec => self.stopwatch.time(&mut command, Some(OUTPUT)).map(|timed| timed.total),
            _ => self.stopwatch.time_unread(&mut command),
        }
    }
}

/// The samples and failures of all lives.
fn counted(over: BTreeMap<u64, Life>, execs: u64) -> Case {
    let mut case = Case { attempts: over.len() as u64, ..Case::default() };
    let mut failures = BTreeMap::<String, u64>::new();
    let mut lived = Step::ALL.to_vec();
    lived.retain(|step| over.values().flatten().flatten().any(|(taken, _)| taken == step));
    for life in over.into_values() {
        let samples = match life {
            Ok(samples) => samples,
            Err(why) => {
                *failures.entry(why).or_default() += 1;
                Vec::new()
            }
        };
        for &step in &lived {
            let times = if step == Step::Exec { execs } else { 1 };
            let mut of_step = samples.iter().filter(|(taken, _)| *taken == step);
            let series = case.series.entry(step.name().to_owned()).or_default();
            series.extend((0..times).map(|_| of_step.next().map(|&(_, took)| nanoseconds(took))));
        }
        let total = samples.iter().map(|&(_, took)| took).sum();
        let total = (!samples.is_empty()).then(|| nanoseconds(total));
        case.series.entry("total".to_owned()).or_default().push(total);
    }
    case.failures = failures.into_iter().map(|(error, count)| Failure { error, count }).collect();
    case
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use agentkernel_core::{Yardstick, YardstickLife};

    use super::{Lives, Subject, lives};
    use crate::result::{Case, Failure, Section};
    use crate::{COMMAND, OUTPUT, Programs, Tool, World};

    /// A sandbox is a folder here, in which `start` and `stop` are nothing to do.
    const FOLDER: Yardstick = Yardstick {
        name: "sh",
        program: "sh",
        version: &["-c", "echo 1"],
        prepare: |_, _| Ok(()),
        place: None,
        run: &["-c", "\"$@\"", "sh", "{command}"],
        life: Some(YardstickLife {
            create: &["-c", "mkdir {dir}/{name}"],
            start: &[],
            exec: &["-c", "cd {dir}/{name} && \"$@\"", "sh", "{command}"],
            stop: &[],
            remove: &["-c", "rmdir {dir}/{name}"],
        }),
    };

    /// What became of eight lives of which three went on at once, and how many folders are left.
    fn lived(yardstick: &Yardstick, stop_after: u64) -> (Case, usize) {
        let program = std::path::PathBuf::from("/bin/true");
        let programs = Programs { agentkernel: program.clone(), agentkerneld: program };
        let world = World::new(&programs).unwrap();
        let tool = Tool::new(&world, yardstick, COMMAND, OUTPUT);
        assert_eq!(tool.unusable(), None);
        let subject = Subject { backend: "native", tool: Some(&tool) };
        let asked = Lives { section: Section::Stress, count: 8, at_once: 3, execs: 2 };
        let over = Cell::new(0);
        let stop = || over.get() >= stop_after;
        let case = lives(&world, &subject, &asked, &|count| over.set(count), &stop).unwrap();
        assert_eq!(over.get(), case.attempts);
        (case, std::fs::read_dir(world.directory("tool-sh").unwrap()).unwrap().count())
    }

    #[test]
    fn each_step_of_each_life_is_measured() {
        let (case, left) = lived(&FOLDER, u64::MAX);
        assert_eq!((case.attempts, case.at_once, case.failed(), left), (8, 3, 0, 0));
        assert_eq!((case.backend.as_str(), case.tool.as_str()), ("native", "sh"));
        let counts: Vec<_> = ["create", "start", "exec", "stop", "remove", "total"]
            .map(|series| case.samples(series).len())
            .into();
        assert_eq!(counts, [8, 0, 16, 0, 8, 8]);
        let sum: u64 = ["create", "exec", "remove"].iter().flat_map(|one| case.samples(one)).sum();
        assert_eq!(sum, case.samples("total").iter().sum::<u64>());
    }

    #[test]
    fn a_life_that_fails_is_counted_and_cleared_away() {
        // The one that must not run is life-3.
        let exec =
            &["-c", "case {name} in *-3) echo {name} >&2; exit 7; esac; \"$@\"", "sh", "{command}"];
        let life = FOLDER.life.map(|life| YardstickLife { exec, ..life });
        let (case, left) = lived(&Yardstick { life, ..FOLDER }, u64::MAX);
        assert_eq!((case.attempts, left), (8, 0));
        let error = "exec: exit status: 7: NAME".to_owned();
        assert_eq!(case.failures, [Failure { error, count: 1 }]);
        assert_eq!(case.series["exec"].len(), 16);
        assert_eq!(case.series["exec"][6..8], [None, None]);
        assert_eq!(case.series["total"][3], None);
        assert_eq!(case.samples("total").len(), 7);
    }

    #[test]
    fn no_life_begins_once_it_is_to_stop() {
        let (case, left) = lived(&FOLDER, 2);
        assert!((2..8).contains(&case.attempts), "{}", case.attempts);
        assert_eq!((case.failed(), left), (0, 0));
    }
}
