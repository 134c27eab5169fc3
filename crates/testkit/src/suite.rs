//! Tables of behaviours, and the runner that goes through them.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use agentkernel_core::Capability;

use crate::draw::{Cover, Draw};
use crate::tally::Tally;
use crate::{NotPassed, Route, Subject, Verdict, far};

/// How many behaviours are tried at the same time, unless `--workers=N` says otherwise.
const WORKERS: usize = 2;

/// Who has a part in a behaviour. It decides with which engines it is tried; see [`Cover`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// Whoever makes the place.
    Engine,
    /// The agent and the link that leads to it, which are the same once there is a place.
    Link,
    /// The program alone, which refuses or writes down something here.
    Program,
}

/// One thing that every backend with the capabilities for it must do.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// Unique, in kebab case.
    pub name: &'static str,
    /// What users can rely on, as a sentence without its full stop.
    pub promise: &'static str,
    pub needs: &'static [Capability],
    /// Who is on the way between it and the test.
    pub matter: Matter,
    /// Whether nothing else may run beside it: it looks at the whole machine, or measures time.
    pub alone: bool,
    pub commands: Commands,
    /// The routes on which it can't be seen, and why.
    pub left_out: Option<(&'static [Route], &'static str)>,
    pub test: fn(&Subject) -> Verdict,
}

/// What the commands of a behaviour are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commands {
    Programs,
    /// WebAssembly modules, as of a backend whose images are such.
    Modules,
    /// It has none, and holds with any backend.
    None,
}

impl Behaviour {
    pub const fn new(
        name: &'static str,
        promise: &'static str,
        needs: &'static [Capability],
        test: fn(&Subject) -> Verdict,
    ) -> Self {
        let commands = Commands::Programs;
        let (matter, alone, left_out) = (Matter::Engine, false, None);
        Self { name, promise, needs, matter, alone, commands, left_out, test }
    }

    /// The same behaviour, of those that have these capabilities.
    pub const fn needing(self, needs: &'static [Capability]) -> Self {
        Self { needs, ..self }
    }

    /// The same behaviours, as a matter of others than whoever makes the place.
    pub(crate) fn all_of(matter: Matter, table: &[Self]) -> Vec<Self> {
        table.iter().map(|behaviour| Self { matter, ..*behaviour }).collect()
    }

    /// The same behaviour, tried while nothing else is.
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The same behaviour, of backends with these commands.
    pub const fn of(self, commands: Commands) -> Self {
        Self { commands, ..self }
    }

    /// The same behaviour, tried on this route alone, for this reason.
    pub const fn only(self, route: Route, why: &'static str) -> Self {
        let others: &[Route] = match route {
            Route::Cold => &[Route::Live, Route::Pool],
            Route::Live => &[Route::Cold, Route::Pool],
            Route::Pool => &[Route::Cold, Route::Live],
        };
        Self { left_out: Some((others, why)), ..self }
    }

    /// The same behaviour, tried wherever a sandbox ends with its command, for this reason.
    pub const fn not_live(self, why: &'static str) -> Self {
        Self { left_out: Some((&[Route::Live], why)), ..self }
    }

    pub(crate) fn is_on(&self, route: Route) -> bool {
        self.left_out.is_none_or(|(routes, _)| !routes.contains(&route))
    }

    /// Whether it is about such commands as the subject runs.
    fn fits(&self, subject: &Subject) -> bool {
        match self.commands {
            Commands::Programs => !subject.runs_modules(),
            Commands::Modules => subject.runs_modules(),
            Commands::None => true,
        }
    }

    fn judge(&self, subject: &Subject) -> Verdict {
        if let Some(lacking) = self.needs.iter().find(|need| !subject.has(**need)) {
            let (backend, lacking) = (&subject.backend, lacking.name());
            return Err(NotPassed::Skipped(format!("{backend} lacks the capability {lacking:?}")));
        }
        if let Some(left_out) = far::left_out(subject, self.name) {
            return Err(left_out);
        }
        // The tests report by their verdict; a panic is a mistake in one, and ends only that one.
        catch_unwind(AssertUnwindSafe(|| (self.test)(subject)))
            .unwrap_or_else(|_| Err(NotPassed::Failed("the test panicked".into())))
    }
}

/// Runs every behaviour of `table` over every subject that `find_subjects` finds, and prints one
/// line for each and a closing line with the counts. `arguments` are the program's own: `--list`
/// only prints the table, `--slowest` adds what took longest, `--all-routes` draws no lots and takes
/// no samples (see [`Cover`]), `--one-route` tries each on one route of each engine, `--workers=N` tries so
/// many at a time, which pays where engines are waited for, and any other word picks what has it in
/// `backend/caller/route/name`.
///
/// Returns whether nothing failed.
pub fn run_suite(
    table: &[Behaviour],
    cover: Cover,
    arguments: &[String],
    find_subjects: impl FnOnce() -> Result<Vec<Subject>, NotPassed>,
) -> bool {
    let (options, filters): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| argument.starts_with('-'));
    if options.iter().any(|option| *option == "--list") {
        for behaviour in table {
            println!("{}: {}", behaviour.name, behaviour.promise);
            if let Some((routes, why)) = behaviour.left_out {
                let names: Vec<_> = routes.iter().map(|route| route.name()).collect();
                println!("    not {}: {why}", names.join(", "));
            }
        }
        return true;
    }
    let mut tally = Tally::default();
    let has = |name: &str| options.iter().any(|option| *option == name);
    let workers = options.iter().find_map(|option| option.strip_prefix("--workers=")?.parse().ok());
    let workers = workers.unwrap_or(WORKERS);
    match find_subjects() {
        Ok(mut subjects) => {
            for subject in &mut subjects {
                // Nor is the micro-VM quick that is for tests only.
                let slow = subject.has_engine() || !subject.has_floats();
                subject.sampled = slow && !has("--all-routes");
            }
            let cover = if has("--one-route") { Cover::EachOnOneRoute } else { cover };
            let draw = (!has("--all-routes")).then(|| Draw::among(&subjects, cover));
            let trials = pick(table, &subjects, draw.as_ref(), &filters, &mut tally);
            if trials.iter().any(|trial| trial.subject.sampled) {
                // Whoever sums up what ran is to say so.
                println!(
                    "table: routes by lot, and a few of cases that are alike (all: --all-routes)"
                );
            }
            go_through(trials, workers, &mut tally);
        }
        Err(not_passed) => tally.count("doctor", &Err(not_passed)),
    }
    if has("--slowest") {
        tally.print_slowest();
    }
    tally.close();
    tally.failed == 0
}

/// What is to be tried. What can't be here is counted as skipped.
fn pick<'a>(
    table: &'a [Behaviour],
    subjects: &'a [Subject],
    draw: Option<&Draw>,
    filters: &[&String],
    tally: &mut Tally,
) -> Vec<Trial<'a>> {
    let picked = |name: &str| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let mut trials = Vec::new();
    for subject in subjects {
        let on_route = table.iter().filter(|behaviour| {
            behaviour.is_on(subject.route) && draw.is_none_or(|draw| draw.takes(behaviour, subject))
        });
        let named = on_route.map(|behaviour| Trial {
            name: format!("{}/{}", subject.label(), behaviour.name),
            behaviour,
            subject,
        });
        let picked = named.filter(|trial| picked(&trial.name));
        let (picked, others): (Vec<_>, Vec<_>) =
            picked.partition(|trial| trial.behaviour.fits(subject));
        // What is promised of modules is none of a backend's that runs programs.
        if subject.runs_modules() && !others.is_empty() {
            tally.skip_all(subject, others.len(), "its command is a module");
        }
        match &subject.unavailable {
            Some(why) if !picked.is_empty() => tally.skip_all(subject, picked.len(), why),
            Some(_) => {}
            None => trials.extend(picked),
        }
    }
    trials
}

fn go_through(trials: Vec<Trial<'_>>, workers: usize, tally: &mut Tally) {
    let (alone, together): (Vec<_>, Vec<_>) =
        trials.into_iter().partition(|trial| trial.behaviour.alone);
    let tally = Mutex::new(tally);
    work_off(together.into(), workers, &tally);
    work_off(alone.into(), 1, &tally);
}

#[derive(Debug)]
struct Trial<'a> {
    name: String,
    behaviour: &'a Behaviour,
    subject: &'a Subject,
}

fn work_off(trials: VecDeque<Trial<'_>>, workers: usize, tally: &Mutex<&mut Tally>) {
    let trials = Mutex::new(trials);
    let work = || {
        // A worker that panicked outside a test has left whole values behind.
        let next = || trials.lock().unwrap_or_else(|poison| poison.into_inner()).pop_front();
        while let Some(trial) = next() {
            let started = Instant::now();
            let verdict = trial.behaviour.judge(trial.subject);
            let took = started.elapsed();
            let mut tally = tally.lock().unwrap_or_else(|poison| poison.into_inner());
            tally.tried(&trial.name, trial.subject, &verdict, took);
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
}

/// The promises of a table that are none: too short to say anything, or with a full stop.
pub fn bad_promises(table: &[Behaviour]) -> Vec<&'static str> {
    let promises = table.iter().map(|behaviour| behaviour.promise);
    promises.filter(|promise| promise.len() <= 20 || promise.ends_with('.')).collect()
}

/// What is wrong with the names of a table: not in kebab case, or there twice.
pub fn bad_names(table: &[Behaviour]) -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    let kebab = |name: &str| {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        name.split('-').all(word)
    };
    let names = table.iter().map(|behaviour| behaviour.name);
    names.filter(|name| !kebab(name) || !seen.insert(*name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Caller;

    fn subject(unavailable: Option<&str>) -> Subject {
        Subject {
            backend: "native".into(),
            capabilities: BTreeSet::from([Capability::User.name().into()]),
            unavailable: unavailable.map(Into::into),
            ..Subject::nameless("agentkernel".into(), Caller::Me)
        }
    }

    #[test]
    fn what_is_missing_is_a_skip_and_a_panic_is_a_failure() {
        let passing = Behaviour::new("a", "", &[Capability::User], |_| Ok(()));
        assert_eq!(passing.judge(&subject(None)), Ok(()));
        let panicking = Behaviour::new("b", "", &[], |_| panic!("as it should"));
        assert!(matches!(panicking.judge(&subject(None)), Err(NotPassed::Failed(_))));
        let demanding = Behaviour::new("c", "", &[Capability::Terminal], |_| Ok(()));
        assert!(matches!(demanding.judge(&subject(None)), Err(NotPassed::Skipped(_))));
        let mut tally = Tally::default();
        pick(&[passing, demanding], &[subject(Some("no reason"))], None, &[], &mut tally);
        assert_eq!((tally.passed, tally.failed, tally.skipped), (0, 0, 2));
    }

    #[test]
    fn a_filter_picks_by_the_whole_name_and_one_failure_fails_the_suite() {
        let table = [
            Behaviour::new("good", "", &[], |_| Ok(())),
            Behaviour::new("bad", "", &[], |_| Err(NotPassed::Failed("as it should".into()))),
        ];
        let run = |filter: &str| {
            let arguments: Vec<String> = filter.split_whitespace().map(Into::into).collect();
            run_suite(&table, Cover::All, &arguments, || Ok(vec![subject(None)]))
        };
        assert!(run("good") && run("--list") && run("no-such-name"));
        assert!(!run("") && !run("native/") && !run("good bad"));
        assert!(!run_suite(&[], Cover::All, &[], || Err(NotPassed::Failed("as it should".into()))));
    }

    #[test]
    fn a_behaviour_of_one_route_is_not_tried_on_another() {
        let failing = Behaviour::new("a", "", &[], |_| Err(NotPassed::Failed("tried".into())));
        let table = [failing.only(Route::Live, "it is a test")];
        let mut tally = Tally::default();
        let (cold, live) = (subject(None), Subject { route: Route::Live, ..subject(None) });
        let count = |subject: &Subject, tally: &mut Tally| {
            pick(&table, std::slice::from_ref(subject), None, &[], tally).len()
        };
        assert_eq!((count(&cold, &mut tally), count(&live, &mut tally)), (0, 1));
        assert_eq!(tally.skipped, 0);
    }

    #[test]
    fn modules_are_tried_with_backends_of_modules_and_programs_with_others() {
        let behaviour = |commands| Behaviour::new("a", "", &[], |_| Ok(())).of(commands);
        let table = [Commands::Programs, Commands::Modules, Commands::None].map(behaviour);
        let with = |capabilities: &[Capability]| {
            let names = capabilities.iter().map(|capability| capability.name().into());
            let subject = Subject { capabilities: names.collect(), ..subject(None) };
            let mut tally = Tally::default();
            let trials = pick(&table, std::slice::from_ref(&subject), None, &[], &mut tally);
            let tried: Vec<_> = trials.iter().map(|trial| trial.behaviour.commands).collect();
            (tried, tally.skipped)
        };
        let programs = vec![Commands::Programs, Commands::None];
        assert_eq!(with(&[Capability::ImageHost]), (programs.clone(), 0));
        assert_eq!(with(&[Capability::ImageModule, Capability::ImageReference]), (programs, 0));
        let modules = vec![Commands::Modules, Commands::None];
        assert_eq!(with(&[Capability::ImageModule]), (modules, 1));
    }

    #[test]
    fn names_are_in_kebab_case_and_there_once() {
        let named = |name| Behaviour::new(name, "", &[], |_| Ok(()));
        let table = ["exit-status", "Exit", "a--b", "a_b", "", "exit-status", "x-1"].map(named);
        assert_eq!(bad_names(&table), ["Exit", "a--b", "a_b", "", "exit-status"]);
    }
}
