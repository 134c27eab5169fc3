//! From a request to what came of it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use agentkernel_core::{
    Backend, Capability, Image, Launch, News, Pinned, Place, Port, Provision, Remains, Spec, Stdio,
    tell,
};
use agentkernel_protocol::Role;

use agentkernel_wire::{PlaceRecord, nearest};

use crate::action::{EngineError, Outcome, Probed, Route, Run};
use crate::command::{Called, CommandRun, Course, Finished, Peer};
use crate::demand;
use crate::diary::Diary;
use crate::journal::Journal;
use crate::lease::{Asked, Held, Lease};
use crate::live::{Client, code};
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

    /// Runs a command in a sandbox of its own: one out of the daemon's pool if there is one for its
    /// spec, else one that is booted for it. When this returns the command and all that it has
    /// started are dead; a sandbox that was booted for it is gone too.
    ///
    /// A command that may have started is never started again.
    pub fn run(&self, mut run: Run, journal: Option<&Journal>) -> Result<Outcome, EngineError> {
        let start = Instant::now();
        let backend = self.select(run.backend.as_deref())?;
        let terminal = run.terminal.is_given(run.stdin);
        // Here, where a signal still ends us.
        if pin(backend, &mut run.spec, &run.provision)? == Pinned::Missing {
            self.provide(run.backend.as_deref(), &mut run.spec, &run.provision)?;
        }
        demand::check(backend, &run.spec, terminal)?;
        // Before a sandbox is taken that would be of no use without it.
        let code = code(backend, &run.spec)?;
        // As early as can be: it is answered while all else is made ready.
        let asked = match journal {
            _ if run.provision.renews() => Err("its image was to be built or fetched anew".into()),
            Some(journal) if run.pooled => Lease::ask(journal.dirs(), backend, &run.spec),
            Some(_) => Err("no pool was to be used".into()),
            None => Err("there is no place for a daemon's socket".into()),
        };
        let offered = match backend.can_boot() {
            true => asked.map(Offer::Asked),
            // All that is made ready would be of no use to whoever boots one.
            false => match asked.and_then(Lease::take) {
                Ok(lease) => Ok(Offer::Taken(lease)),
                Err(_) => return Err(EngineError::elsewhere(backend)),
            },
        };
        let (streams, stdio) = Streams::connect(terminal, run.stdin)?;
        streams.name_terminal(&run.spec, &mut run.command);
        // Before anything is started, so that no signal comes too early to be forwarded.
        let driver = CommandRun::new(streams, run.command.time_limit)?;
        let diary = Diary::open(journal, backend, &run)?;
        let begun =
            offered.and_then(|offer| begin_leased(offer, backend, &run, &stdio, code.as_ref()));
        let outcome = match begun {
            Ok((peer, mut held)) => {
                let called = Called::of(&run.spec, &run.command);
                let ports = match run.spec.ports.is_empty() {
                    true => Vec::new(),
                    false => held.place().ports(),
                };
                tell_ports(&run.spec, &ports);
                match driver.drive_ready(stdio, &peer, peer.told(), &called, start) {
                    Ok(Course::Unread(driver, stdio)) if backend.can_boot() => {
                        let why = format!("what the pool {} gave had just died", held.pool);
                        run_cold(why, backend, driver, &run, (stdio, code), start)
                    }
                    Ok(course) => {
                        let outcome =
                            leased(course.here(start), &mut held, ports, backend, &run, start);
                        // The place goes once all is written down, since the kernel takes a while
                        // for that, on processors that this could use.
                        let told = diary.close(Ok(outcome));
                        held.leave();
                        return told;
                    }
                    Err(error) => Err(error),
                }
            }
            Err(_) if !backend.can_boot() => Err(EngineError::elsewhere(backend)),
            Err(why) => run_cold(why, backend, driver, &run, (stdio, code), start),
        };
        diary.close(outcome)
    }

    /// The backend of this name, or the first that is there. A backend that turns out not to work
    /// says so when it boots, with what to do; trying each of them first would cost every run.
    pub fn select(&self, name: Option<&str>) -> Result<&'static dyn Backend, EngineError> {
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

    /// The backend of this name as [`select`](Self::select) finds it, for what takes one that
    /// [can boot](Backend::can_boot).
    pub fn expect_driver(&self, name: Option<&str>) -> Result<&'static dyn Backend, EngineError> {
        let backend = self.select(name)?;
        match backend.can_boot() {
            true => Ok(backend),
            false => Err(EngineError::elsewhere(backend)),
        }
    }

    /// As [`provide`](Self::provide), but leaves what a boot does of itself to that.
    pub fn settle_image(
        &self,
        name: Option<&str>,
        spec: &mut Spec,
        provision: &Provision,
    ) -> Result<(), EngineError> {
        match pin(self.select(name)?, spec, provision)? {
            Pinned::Done => Ok(()),
            Pinned::ByEngine if !provision.is_needed() => Ok(()),
            _ => self.provide(name, spec, provision),
        }
    }

    /// Sees to it that the image of `spec` is there, built or fetched, and that the spec names it by
    /// its content where the backend keeps it: what has to be done before anything else is made.
    /// Where that is nothing, the backend is not asked.
    pub fn provide(
        &self,
        name: Option<&str>,
        spec: &mut Spec,
        provision: &Provision,
    ) -> Result<(), EngineError> {
        let backend = self.select(name)?;
        if provision.build.is_some() && !backend.capabilities().has(Capability::ImageBuild) {
            return Err(EngineError::refused(
                format!("the {} backend builds no images", backend.name()),
                "leave out the build, or choose a backend that `agentkernel doctor` lists with \
                 image build"
                    .into(),
            ));
        }
        demand::check_part(backend, spec, false)?;
        if spec.image.reference().is_none() {
            return Ok(());
        }
        if pin(backend, spec, provision)? == Pinned::Done {
            return Ok(());
        }
        if !backend.can_provide() {
            return Err(EngineError::elsewhere(backend));
        }
        backend.provide(spec, provision).map_err(|error| slip(spec, backend, error.into()))?;
        let runs_modules = |one: &&dyn Backend| one.capabilities().has(Capability::ImageModule);
        match backend.pin(spec)? {
            // Now that it is here, whoever chooses a backend by it can do so.
            Pinned::OfOtherKind if name.is_none() && self.backends.iter().any(runs_modules) => {
                Err(EngineError { elsewhere: true, ..demand::refuse_kind(backend, &spec.image) })
            }
            Pinned::OfOtherKind => Err(demand::refuse_kind(backend, &spec.image)),
            _ => Ok(()),
        }
    }

    /// Has each backend [sweep](Backend::sweep): of that no record is, and nobody has to be asked.
    pub fn sweep(&self) -> Vec<PathBuf> {
        self.backends.iter().flat_map(|backend| backend.sweep()).collect()
    }

    /// Has each backend that this program drives [forget](Backend::forget) what it keeps under a name
    /// that no record is of, as far as its engine can be asked now.
    pub(crate) fn forget(&self, name: &str, layers: Option<&Path>) {
        for backend in self.backends.iter().filter(|backend| backend.can_boot()) {
            let _ = backend.forget(name, layers);
        }
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

/// Has a spec name its image by its content, unless that is to be renewed: the same content is no
/// newer.
fn pin(
    backend: &dyn Backend,
    spec: &mut Spec,
    provision: &Provision,
) -> Result<Pinned, EngineError> {
    match provision.renews() {
        true => Ok(Pinned::Missing),
        false => match backend.pin(spec)? {
            Pinned::OfOtherKind => Err(demand::refuse_kind(backend, &spec.image)),
            pinned => Ok(pinned),
        },
    }
}

/// The error of an image that could not be had, whose name may be a slip of another word.
fn slip(spec: &Spec, backend: &dyn Backend, error: EngineError) -> EngineError {
    let words = ["host", "auto"];
    let meant = match &spec.image {
        Image::Reference(name) if backend.capabilities().has(Capability::ImageHost) => {
            nearest(name.strip_suffix(":latest").unwrap_or(name), words)
        }
        _ => None,
    };
    match (meant, &error.hint) {
        (Some(word), Some(hint)) => {
            EngineError { hint: Some(format!("did you mean {word}? Else {hint}")), ..error }
        }
        _ => error,
    }
}

/// Runs a command in a place of its own, for want of one that is ready.
fn run_cold(
    why: String,
    backend: &dyn Backend,
    driver: CommandRun,
    run: &Run,
    (stdio, code): (Stdio, Option<OwnedFd>),
    start: Instant,
) -> Result<Outcome, EngineError> {
    if run.provision.is_needed() && !run.provision.renews() {
        backend.provide(&run.spec, &run.provision)?;
    }
    let launch = Launch { command: &run.command, stdio, code, pooled: run.pooled };
    let place = backend.boot(&run.spec, launch)?;
    tell_ports(&run.spec, place.ports());
    let finished = driver.drive(&Own(&*place), &Called::of(&run.spec, &run.command), start);
    let (walls, limits) = (place.walls().to_vec(), place.limits().to_vec());
    let (notes, ports) = (place.notes().to_vec(), place.ports().to_vec());
    // Whatever went wrong, nothing is left behind; only then is it told.
    let destroyed = place.destroy();
    let (finished, mut remains) = match (finished, destroyed) {
        (Ok(finished), Ok(remains)) => (finished, remains),
        (Err(error), _) => return Err(error),
        (Ok(_), Err(error)) => {
            return Err(EngineError::failed(
                &format!("{} was left behind", error.what),
                &error.source,
            ));
        }
    };
    finished.complete(&mut remains);
    let (timeline, ended) = (finished.timeline, finished.ending(remains.oom_kills));
    let broken = finished.deliver_rest();
    let phases = timeline.phases(start, Instant::now());
    Ok(Outcome {
        backend: backend.name(),
        route: Route::Cold(why),
        module: run.spec.image.module_name().map(OsStr::to_owned),
        profile: run.spec.profile,
        ended,
        phases,
        walls,
        limits,
        notes,
        ports,
        remains,
        broken,
    })
}

/// Tells the ports that lead into a place if some were picked: nobody could know them before.
pub(crate) fn tell_ports(spec: &Spec, ports: &[Port]) {
    if spec.ports.iter().any(|port| port.outside.is_none()) {
        tell(News::Published { ports });
    }
}

/// How far the daemon's answer has come.
enum Offer {
    Asked(Asked),
    Taken(Lease),
}

/// Takes the place that the daemon was asked for, and has its agent start the command. After an
/// error, which says why, nothing was started.
fn begin_leased(
    offer: Offer,
    backend: &dyn Backend,
    run: &Run,
    stdio: &Stdio,
    code: Option<&OwnedFd>,
) -> Result<(Client, Held), String> {
    let why = |error: EngineError| error.why;
    backend.open_streams(stdio).map_err(|error| why(error.into()))?;
    let lease = match offer {
        Offer::Asked(asked) => Lease::take(asked)?,
        Offer::Taken(lease) => lease,
    };
    let process = backend.process(&run.spec, &run.command, &|| lease.image());
    let process = process.map_err(|error| why(error.into()))?;
    let lease = lease.attach(backend, &run.spec).map_err(why)?;
    let (link, held) = lease.split();
    Ok((Client::start(link, stdio, process, code, Role::Only).map_err(why)?, held))
}

/// What is to be told of a command that has ended in a leased place. What is left of the place is the
/// daemon's to clear away, beside us, unless somebody wants to know what it has used.
fn leased(
    finished: Finished,
    held: &mut Held,
    ports: Vec<Port>,
    backend: &dyn Backend,
    run: &Run,
    start: Instant,
) -> Outcome {
    let mut remains = Remains::default();
    let pool = held.pool.clone();
    let (mut place, mut notes) = (PlaceRecord::default(), Vec::new());
    if run.thorough || finished.may_be_out_of_memory() {
        place = held.place();
        notes.append(&mut place.notes);
        match held.end() {
            Ok(gone) => remains = gone,
            Err(why) => notes.push(format!("what the sandbox has used is not known: {why}")),
        }
    }
    finished.complete(&mut remains);
    let (timeline, ended) = (finished.timeline, finished.ending(remains.oom_kills));
    let broken = finished.deliver_rest();
    let phases = timeline.phases(start, Instant::now());
    Outcome {
        backend: backend.name(),
        route: Route::Pool(pool),
        module: run.spec.image.module_name().map(OsStr::to_owned),
        profile: run.spec.profile,
        ended,
        phases,
        walls: place.walls(),
        limits: place.limits(),
        notes,
        ports,
        remains,
        broken,
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
