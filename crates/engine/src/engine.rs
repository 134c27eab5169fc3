//! From a request to what came of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use agentkernel_core::{Backend, Launch, Place};

use crate::action::{EngineError, Outcome, Probed, Route, Run};
use crate::command::{Called, CommandRun, Peer};
use crate::demand;
use crate::streams::Streams;

/// Carries out requests on a given list of backends.
pub struct Engine {
    backends: &'static [&'static dyn Backend],
}

impl Engine {
    /// An engine over `backends`, the preferred ones first.
    pub const fn new(backends: &'static [&'static dyn Backend]) -> Self {
        Self { backends }
    }

    /// Runs a command in a sandbox of its own. When this returns the command has ended and its
    /// place is gone.
    pub fn run(&self, mut run: Run) -> Result<Outcome, EngineError> {
        let start = Instant::now();
        let backend = self.select(run.backend.as_deref())?;
        let (streams, stdio) = Streams::connect(run.terminal, run.stdin)?;
        streams.name_terminal(&run.spec, &mut run.command);
        demand::check(backend, &run.spec, streams.is_terminal())?;
        // Before anything is made, so that no signal comes too early to be forwarded.
        let command = CommandRun::new(streams, run.command.time_limit)?;
        let place = backend.boot(&run.spec, Launch { command: &run.command, stdio })?;
        let finished = command.drive(&Own(&*place), &Called::of(&run.spec, &run.command), start);
        let (walls, limits) = (place.walls().to_vec(), place.limits().to_vec());
        let notes = place.notes().to_vec();
        // Whatever went wrong, nothing is left behind; only then is it told.
        let destroyed = place.destroy();
        let (finished, remains) = match (finished, destroyed) {
            (Ok(finished), Ok(remains)) => (finished, remains),
            (Err(error), _) => return Err(error),
            (Ok(_), Err(error)) => {
                return Err(EngineError::failed(
                    &format!("{} was left behind", error.what),
                    &error.source,
                ));
            }
        };
        let (timeline, ended) = (finished.timeline, finished.ending(remains.oom_kills));
        let broken = finished.deliver_rest();
        let phases = timeline.phases(start, Instant::now());
        let backend = backend.name();
        let route = Route::Cold("there is no pool".into());
        let profile = run.spec.profile;
        Ok(Outcome {
            backend,
            route,
            profile,
            ended,
            phases,
            walls,
            limits,
            notes,
            remains,
            broken,
        })
    }

    /// The backend of this name, or the first that is there. A backend that turns out not to work
    /// says so when it boots, with what to do; trying each of them first would cost every run.
    pub(crate) fn select(&self, name: Option<&str>) -> Result<&'static dyn Backend, EngineError> {
        let names = || self.backends.iter().map(|b| b.name()).collect::<Vec<_>>().join(", ");
        let found = match name {
            Some(name) => self.backends.iter().find(|backend| backend.name() == name),
            None => self.backends.first(),
        };
        found.copied().ok_or_else(|| match name {
            Some(name) => EngineError::refused(
                format!("there is no backend {name:?}"),
                format!("the backends are: {}", names()),
            ),
            None => EngineError::refused(
                "this build has no backend for this platform".into(),
                "use it on Linux".into(),
            ),
        })
    }

    /// Tries whether each backend works here.
    pub fn probe(&self) -> Vec<Probed> {
        let probe = |backend: &&'static dyn Backend| Probed {
            name: backend.name(),
            capabilities: backend.capabilities(),
            probe: backend.probe(),
        };
        self.backends.iter().map(probe).collect()
    }
}

/// A place that was booted for one command.
struct Own<'a>(&'a dyn Place);

impl Peer for Own<'_> {
    fn link(&self) -> BorrowedFd<'_> {
        self.0.link()
    }

    fn kill(&self) {
        self.0.kill();
    }

    fn explain(&self, step: u16, error: io::Error) -> EngineError {
        self.0.explain(step, error).into()
    }
}
