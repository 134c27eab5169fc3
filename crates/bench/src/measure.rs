//! A whole benchmark, from the first backend to the last.

use std::env;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use agentkernel_core::{Backend, Capability, Class, Probe};
use agentkernel_wire::BenchMeasure;

use crate::control::Control;
use crate::machine;
use crate::plan::Plan;
use crate::result::{
    ALL, BackendFacts, COLD, Case, Document, LIVE, POOL, SCHEMA, Section, Settings,
};
use crate::sections::{self, Filled, Runner, WARM_UP, at_once, group, in_turn, levels};
use crate::tool::Tool;
use crate::world::{Programs, World};
use crate::{COMMAND, OUTPUT, Surroundings};

/// Measures what is asked for. What fails is in the result, and the rest goes on; so is what was
/// measured before somebody ended it.
pub fn measure(
    request: &BenchMeasure,
    programs: &Programs,
    registry: &[&dyn Backend],
    control: &Control,
) -> io::Result<Document> {
    let mut session = Session {
        plan: Plan::of(request, Class::Process),
        programs,
        control,
        document: Document {
            schema: SCHEMA,
            kind: "bench".to_owned(),
            date: agentkernel_store::time::to_text(SystemTime::now()),
            interrupted: false,
            settings: Settings::new(request.quick, WARM_UP),
            machine: machine::facts(Path::new(".")),
            backends: Vec::new(),
            tools: Vec::new(),
            cases: Vec::new(),
        },
    };
    let has_pools = registry.iter().any(|backend| session.wants(request, *backend));
    for backend in registry {
        session.backend(request, *backend)?;
    }
    if has_pools {
        let rounds = Plan::of(request, Class::Process).hand_outs;
        let hand_outs = sections::hand_out(rounds, control);
        session.keep(Section::HandOut, ALL, POOL, hand_outs);
    }
    control.finish();
    session.document.interrupted = control.is_stopped();
    session.document.cases.retain(|case| case.attempts > 0);
    session.document.machine.load_after = machine::load();
    Ok(session.document)
}

struct Session<'a> {
    plan: Plan,
    programs: &'a Programs,
    control: &'a Control,
    document: Document,
}

impl Session<'_> {
    /// Whether a backend was asked for and may be measured.
    fn wants(&self, request: &BenchMeasure, backend: &dyn Backend) -> bool {
        request.backends.is_empty() || request.backends.iter().any(|name| name == backend.name())
    }

    /// Measures a backend if it is wanted and ready, and says why not if it is not.
    fn backend(&mut self, request: &BenchMeasure, backend: &dyn Backend) -> io::Result<()> {
        let (world, notes) = match backend.probe() {
            _ if !self.wants(request, backend) => {
                (Err("it was not asked for".to_owned()), Vec::new())
            }
            Probe::Unavailable { why, .. } => (Err(why), Vec::new()),
            Probe::Ready { notes, .. } => (self.world(request, backend)?, notes),
        };
        let image = world.as_ref().ok().and_then(World::image).map(str::to_owned);
        let unmeasured = world.as_ref().err().cloned();
        self.document.backends.push(BackendFacts {
            image,
            notes,
            ..BackendFacts::of(backend, unmeasured)
        });
        let Ok(world) = world else { return Ok(()) };
        self.plan = Plan::of(request, backend.about().class);
        let mut tools = vec![Tool::process(&world, COMMAND, OUTPUT)];
        let others = backend.yardsticks().iter();
        tools.extend(others.map(|yardstick| Tool::new(&world, yardstick, COMMAND, OUTPUT)));
        let facts = tools.iter().skip(1).map(|tool| tool.facts(backend.name()));
        self.document.tools.extend(facts);
        tools.retain(|tool| tool.unusable().is_none());
        // First, for the kernel gives back slowly what others have used.
        let memory = sections::memory(&world, backend.name(), self.plan.waiting, self.control);
        self.keep(Section::Memory, backend.name(), LIVE, memory);
        self.cold(&world, backend.name(), &tools);
        self.pool(&world, backend.name(), &tools);
        self.live(&world, backend.name(), &tools);
        Ok(())
    }

    /// The world of a backend, or why it can't be measured.
    ///
    /// One that takes an image is tried: it may have to be fetched, which nobody wants to time, and
    /// whether it can be is seen by nothing else. What does not work though it was asked for by its
    /// name is a failure, too.
    fn world(
        &mut self,
        request: &BenchMeasure,
        backend: &dyn Backend,
    ) -> io::Result<Result<World, String>> {
        let name = backend.name();
        self.control.begin(format!("trying {name}"), 1);
        let surroundings = Surroundings::of(backend, &|name| env::var_os(name));
        let tried = match surroundings {
            Ok(surroundings) => {
                let needs_image = !backend.capabilities().has(Capability::ImageHost);
                let world = World::within(self.programs, surroundings)?;
                let tried = match needs_image && !self.control.is_stopped() {
                    true => sections::try_out(&world, name),
                    false => Ok(()),
                };
                tried.map(|()| world)
            }
            Err(why) => Err(why),
        };
        if let Err(why) = &tried
            && !request.backends.is_empty()
        {
            self.keep(Section::Once, name, COLD, Err(why.clone()));
        }
        Ok(tried)
    }

    /// Whatever boots a sandbox for each command.
    fn cold(&mut self, world: &World, backend: &str, tools: &[Tool<'_>]) {
        let mut runners = runs(backend, tools);
        runners.push(sections::run(world, backend, COLD));
        runners.iter_mut().for_each(|runner| runner.rest = self.plan.rest);
        let once = in_turn(
            Section::Once,
            &group(backend, COLD),
            &runners,
            self.plan.runs,
            None,
            self.control,
        );
        self.keep(Section::Once, backend, COLD, once);
        let phases = sections::phases(
            world,
            backend,
            COLD,
            self.plan.phases,
            None,
            self.plan.rest,
            self.control,
        );
        self.keep(Section::Phases, backend, COLD, phases);
        for runner in &runners {
            self.load(runner);
        }
        for level in levels(self.plan.most) {
            for runner in &runners {
                let known = &self.document.cases;
                if !has_failed(known, &runner.case) && !self.control.is_stopped() {
                    let case = at_once(Section::Scale, runner, level, level, self.control);
                    self.document.cases.push(case);
                }
            }
        }
    }

    /// A number of requests, so many at a time.
    fn load(&mut self, runner: &Runner<'_>) {
        if self.control.is_stopped() {
            return;
        }
        let Plan { requests, at_a_time, .. } = self.plan;
        let case = at_once(Section::Requests, runner, requests, at_a_time, self.control);
        self.document.cases.push(case);
    }

    /// Whatever comes out of a pool.
    fn pool(&mut self, world: &World, backend: &str, tools: &[Tool<'_>]) {
        if self.control.is_stopped() {
            return;
        }
        self.control.begin(format!("filling a pool of {}", self.plan.pool), 1);
        let pool = match Filled::start(world, backend, self.plan.pool) {
            Ok(pool) => pool,
            Err(why) => return self.keep(Section::Refill, backend, POOL, Err(why)),
        };
        self.document.cases.push(pool.refill(backend));
        let mut runners = runs(backend, &tools[..1]);
        runners.push(sections::run(world, backend, POOL));
        let runs = self.plan.runs;
        let once = counted(&pool, || {
            in_turn(Section::Once, &group(backend, POOL), &runners, runs, Some(&pool), self.control)
        });
        self.keep(Section::Once, backend, POOL, once);
        let phases = sections::phases(
            world,
            backend,
            POOL,
            self.plan.phases,
            Some(&pool),
            Duration::ZERO,
            self.control,
        );
        self.keep(Section::Phases, backend, POOL, phases);
        let Some(runner) = runners.last() else { return };
        if pool.await_full().is_ok() {
            self.load(runner);
        }
        let sustained = pool.await_full().and_then(|()| {
            let count = 4 * pool.size();
            counted(&pool, || Ok(vec![at_once(Section::Sustained, runner, count, 4, self.control)]))
        });
        self.keep(Section::Sustained, backend, POOL, sustained);
    }

    /// Sandboxes that live.
    fn live(&mut self, world: &World, backend: &str, tools: &[Tool<'_>]) {
        let Plan { lives, execs, .. } = self.plan;
        let lives = sections::lifecycle(world, backend, tools, lives, self.control);
        self.keep(Section::Lifecycle, backend, LIVE, lives);
        let execs = sections::execs(world, backend, tools, execs, self.control);
        self.keep(Section::Exec, backend, LIVE, execs);
    }

    /// Keeps what came of a section; that nothing did is a failure of its own.
    fn keep(
        &mut self,
        section: Section,
        backend: &str,
        route: &str,
        outcome: Result<Vec<Case>, String>,
    ) {
        match outcome {
            Ok(cases) => self.document.cases.extend(cases),
            Err(error) => {
                let mut case = Case::ours(section, backend, route);
                case.group = group(backend, route);
                case.add(Err(error));
                self.document.cases.push(case);
            }
        }
    }
}

/// The tools that run the command in a sandbox of its own.
fn runs<'t>(backend: &str, tools: &'t [Tool<'_>]) -> Vec<Runner<'t>> {
    tools.iter().map(|tool| tool.runner(backend)).collect()
}

/// Whether somebody has already failed with fewer at once.
fn has_failed(cases: &[Case], runner: &Case) -> bool {
    let same = |case: &&Case| {
        case.section == Section::Scale
            && (&case.backend, &case.tool, &case.route)
                == (&runner.backend, &runner.tool, &runner.route)
    };
    cases.iter().filter(same).any(|case| case.failed() > 0)
}

/// Says how many came out of the pool while something was measured.
fn counted(
    pool: &Filled<'_>,
    measured: impl FnOnce() -> Result<Vec<Case>, String>,
) -> Result<Vec<Case>, String> {
    let before = pool.handed_out()?;
    let mut cases = measured()?;
    let out = pool.handed_out()?.saturating_sub(before);
    for case in cases.iter_mut().filter(|case| case.route == POOL) {
        // Those of a warm-up come first.
        let counted = out.min(case.attempts);
        case.values.insert("from-pool".to_owned(), counted as f64);
    }
    Ok(cases)
}
