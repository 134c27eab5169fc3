//! The commands that people already know: so many sandboxes live once each, so many at a time, and
//! what came of it is printed and saved.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agentkernel_core::Backend;
use agentkernel_store::time;
use serde::Serialize;

use crate::lives::{Lives, Subject, lives};
use crate::result::{BackendFacts, Case, Document, Failure, Machine, SCHEMA, Section, Settings};
use crate::run::write_whole;
use crate::summary::{Summary, summary};
use crate::tool::Step;
use crate::{Surroundings, Variables, World, machine, release};

/// The least part of the lives that has to succeed, in percent.
const LEAST_SUCCESS: u64 = 95;

/// More than any machine can take is taken for a slip.
const MOST_SANDBOXES: u64 = 100_000;
const MOST_AT_ONCE: u64 = 1000;
const MOST_EXECS: u64 = 1000;

/// What was asked for by variables.
pub struct Asked {
    /// What the files are called, and the kind of the document.
    kind: &'static str,
    lives: Lives,
    backend: &'static dyn Backend,
    surroundings: Surroundings,
    /// Where results go.
    results: PathBuf,
    /// Where both programs are, if they are not to be built.
    programs: Option<PathBuf>,
    source: PathBuf,
}

impl Asked {
    /// `STRESS_VM_COUNT` (10) and `STRESS_MAX_CONCURRENT` (50), for many sandboxes at once.
    pub fn stress(
        variable: Variables<'_>,
        backends: &[&'static dyn Backend],
        source: &Path,
    ) -> Result<Self, String> {
        let lives = Lives {
            section: Section::Stress,
            count: number(variable, "STRESS_VM_COUNT", 10, MOST_SANDBOXES)?,
            at_once: number(variable, "STRESS_MAX_CONCURRENT", 50, MOST_AT_ONCE)?,
            execs: 1,
        };
        Self::new("stress", lives, variable, backends, source)
    }

    /// `BENCH_SANDBOXES` (10), `BENCH_ITERATIONS` (10, the commands in each) and
    /// `BENCH_MAX_CONCURRENT` (50), for the time of each step.
    pub fn benchmark(
        variable: Variables<'_>,
        backends: &[&'static dyn Backend],
        source: &Path,
    ) -> Result<Self, String> {
        let lives = Lives {
            section: Section::Lifecycle,
            count: number(variable, "BENCH_SANDBOXES", 10, MOST_SANDBOXES)?,
            at_once: number(variable, "BENCH_MAX_CONCURRENT", 50, MOST_AT_ONCE)?,
            execs: number(variable, "BENCH_ITERATIONS", 10, MOST_EXECS)?,
        };
        Self::new("benchmark", lives, variable, backends, source)
    }

    fn new(
        kind: &'static str,
        lives: Lives,
        variable: Variables<'_>,
        backends: &[&'static dyn Backend],
        source: &Path,
    ) -> Result<Self, String> {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let backend = backend(variable, backends)?;
        Ok(Self {
            kind,
            lives,
            backend,
            surroundings: Surroundings::of(backend, variable)?,
            results: source.join(path("RESULTS").unwrap_or_else(|| "benchmark-results".into())),
            programs: path("AGENTKERNEL_PROGRAMS").map(|path| source.join(path)),
            source: source.to_owned(),
        })
    }

    /// Measures, prints what came of it, and saves it. It fails if fewer lives succeed than have
    /// to, or if nothing can be measured; in the first case the results are saved all the same.
    pub fn measure(&self) -> Result<(), String> {
        let unsaved =
            |error: io::Error| format!("can't save to {}: {error}", self.results.display());
        // Nobody wants to know that at the end.
        fs::create_dir_all(&self.results).map_err(unsaved)?;
        let programs = match &self.programs {
            Some(directory) => release::found(directory),
            None => release::build(&self.source),
        };
        let programs = programs.map_err(|error| error.to_string())?;
        let begun = World::within(&programs, self.surroundings.clone());
        let world = begun.map_err(|error| format!("can't begin: {error}"))?;
        let date = time::to_text(SystemTime::now());
        let mut machine = machine::facts(&self.source);
        let case = self.live(&world)?;
        machine.load_after = machine::load();
        let short = Short::of(&date, &machine, &case);
        short.print();
        let path = self.save(&self.document(date, machine, case), &short).map_err(unsaved)?;
        println!("{}", path.display());
        if short.succeeded * 100 >= LEAST_SUCCESS * short.sandboxes {
            return Ok(());
        }
        Err(format!(
            "{} of {} succeeded, and at least {LEAST_SUCCESS} % have to",
            short.succeeded, short.sandboxes
        ))
    }

    fn live(&self, world: &World) -> Result<Case, String> {
        let failed = |error: io::Error| format!("can't measure: {error}");
        let subject = Subject { backend: self.backend.name(), tool: None };
        let warm_up = Lives { count: 1, execs: 1, ..self.lives };
        let first = lives(world, &subject, &warm_up, &|_| (), &|| false).map_err(failed)?;
        if let Some(failure) = first.failures.first() {
            return Err(format!("{} does not work here: {}", self.backend.name(), failure.error));
        }
        let step = (self.lives.count / 10).max(10);
        let progress = |over: u64| {
            if over.is_multiple_of(step) {
                // Nobody may be reading that, and a tenth is not worth failing for.
                let _ = writeln!(io::stderr(), "{over} of {} over", self.lives.count);
            }
        };
        lives(world, &subject, &self.lives, &progress, &|| false).map_err(failed)
    }

    fn document(&self, date: String, machine: Machine, case: Case) -> Document {
        Document {
            schema: SCHEMA,
            kind: self.kind.to_owned(),
            date,
            interrupted: false,
            settings: Settings::new(false, 1),
            machine,
            backends: vec![BackendFacts {
                image: self.surroundings.image().map(str::to_owned),
                ..BackendFacts::of(self.backend, None)
            }],
            tools: Vec::new(),
            cases: vec![case],
        }
    }

    /// Writes the short form and the details, and returns where the short form is.
    fn save(&self, document: &Document, short: &Short) -> io::Result<PathBuf> {
        let name = format!("{}_{}", self.kind, document.date.replace(':', ""));
        let details = format!("{name}_details.json");
        write_whole(&self.results.join(&details), &(serde_json::to_string(document)? + "\n"))?;
        let path = self.results.join(format!("{name}.json"));
        let saved = serde_json::to_string_pretty(&Saved { short, details })?;
        write_whole(&path, &(saved + "\n"))?;
        Ok(path)
    }
}

/// A number of at least one.
fn number(variable: Variables<'_>, name: &str, default: u64, most: u64) -> Result<u64, String> {
    let Some(value) = variable(name) else { return Ok(default) };
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.filter(|number| (1..=most).contains(number)).ok_or_else(|| {
        format!("{name} is {value:?}, and has to be a whole number from 1 to {most}")
    })
}

/// The backend of `AGENTKERNEL_BACKEND`, or the first one.
fn backend(
    variable: Variables<'_>,
    backends: &[&'static dyn Backend],
) -> Result<&'static dyn Backend, String> {
    const NAME: &str = "AGENTKERNEL_BACKEND";
    let asked = variable(NAME).filter(|value| !value.is_empty());
    let is_it =
        |backend: &&&'static dyn Backend| asked.as_ref().is_none_or(|name| name == backend.name());
    backends.iter().find(is_it).copied().ok_or_else(|| {
        let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
        match &asked {
            Some(name) => {
                format!("{NAME} is {name:?}, and has to be one of: {}", names.join(", "))
            }
            None => "there is no backend in this build".to_owned(),
        }
    })
}

/// What came of it, in few words.
#[derive(Debug, Serialize)]
struct Short {
    date: String,
    backend: String,
    version: String,
    sandboxes: u64,
    at_once: u64,
    /// In each sandbox.
    execs: u64,
    succeeded: u64,
    failed: u64,
    /// In percent.
    success_rate: f64,
    wall_ms: f64,
    /// Lives from their beginning to their end.
    per_second: f64,
    total_ms: Option<Summary>,
    operations_ms: BTreeMap<&'static str, Summary>,
    failures: Vec<Failure>,
}

/// The short form, as it is saved.
#[derive(Serialize)]
struct Saved<'a> {
    #[serde(flatten)]
    short: &'a Short,
    /// The name of the file with every sample, in the same folder.
    details: String,
}

impl Short {
    fn of(date: &str, machine: &Machine, case: &Case) -> Self {
        let failed = case.failed();
        let succeeded = case.attempts - failed;
        let wall = case.wall_ns as f64 / 1e9;
        let operations = Step::ALL
            .into_iter()
            .filter_map(|step| Some((step.name(), summary(&case.samples(step.name()))?)));
        Self {
            date: date.to_owned(),
            backend: case.backend.clone(),
            version: machine.version.clone(),
            sandboxes: case.attempts,
            at_once: case.at_once,
            execs: case.values.get("execs").map_or(1, |&execs| execs as u64),
            succeeded,
            failed,
            success_rate: 100.0 * succeeded as f64 / case.attempts as f64,
            wall_ms: wall * 1e3,
            per_second: succeeded as f64 / wall,
            total_ms: summary(&case.samples("total")),
            operations_ms: operations.collect(),
            failures: case.failures.clone(),
        }
    }

    fn print(&self) {
        let Self { backend, sandboxes, at_once, execs, .. } = self;
        println!("{backend}: {sandboxes} sandboxes, {at_once} at once, commands in each: {execs}");
        println!("{:9}{:>10}{:>10}{:>10}{:>10}{:>10}  ms", "", "avg", "p50", "p90", "p95", "p99");
        let steps = Step::ALL.map(|step| (step.name(), self.operations_ms.get(step.name())));
        for (name, summary) in steps.into_iter().chain([("total", self.total_ms.as_ref())]) {
            if let Some(Summary { avg, p50, p90, p95, p99 }) = summary {
                println!("{name:9}{avg:10.2}{p50:10.2}{p90:10.2}{p95:10.2}{p99:10.2}");
            }
        }
        println!(
            "{} of {sandboxes} succeeded ({:.1} %) in {:.2} s, {:.1} a second",
            self.succeeded,
            self.success_rate,
            self.wall_ms / 1e3,
            self.per_second
        );
        for Failure { error, count } in &self.failures {
            println!("{count} failed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::{Short, backend, number};
    use crate::result::{Case, Failure, Machine};

    fn only<'a>(name: &'a str, value: &'a str) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |asked| (asked == name).then(|| value.into())
    }

    #[test]
    fn a_number_is_taken_as_it_is_or_refused() {
        assert_eq!(number(&only("COUNT", "7"), "COUNT", 10, 100), Ok(7));
        assert_eq!(number(&only("OTHER", "7"), "COUNT", 10, 100), Ok(10));
        for bad in ["", "0", "-1", "abc", "1.5", " 7", "101", "99999999999999999999"] {
            let why = format!("COUNT is {bad:?}, and has to be a whole number from 1 to 100");
            assert_eq!(number(&only("COUNT", bad), "COUNT", 10, 100), Err(why));
        }
    }

    #[test]
    fn a_backend_that_is_not_there_is_not_replaced_by_another() {
        let found = backend(&only("AGENTKERNEL_BACKEND", "nonesuch"), &[]).err();
        assert!(found.is_some_and(|why| why.contains("\"nonesuch\"")));
    }

    #[test]
    fn the_short_form_counts_what_failed() {
        let series = |values: &[Option<u64>]| values.to_vec();
        let case = Case {
            attempts: 4,
            wall_ns: 2_000_000_000,
            series: BTreeMap::from([
                ("exec".to_owned(), series(&[Some(1_000_000), Some(3_000_000), None, None])),
                ("total".to_owned(), series(&[Some(5_000_000), Some(7_000_000), None, None])),
            ]),
            failures: vec![Failure { error: "exec: no".to_owned(), count: 2 }],
            ..Case::default()
        };
        let short = Short::of("2026-11-25T03:11:12.345Z", &Machine::default(), &case);
        assert_eq!((short.succeeded, short.failed), (2, 2));
        assert_eq!((short.success_rate, short.per_second), (50.0, 1.0));
        assert_eq!(short.operations_ms["exec"].avg, 2.0);
        assert_eq!(short.total_ms.map(|total| total.avg), Some(6.0));
        assert!(!short.operations_ms.contains_key("create"));
    }
}
