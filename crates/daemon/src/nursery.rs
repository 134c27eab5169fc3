//! Processes in which places are booted.
//!
//! The agent of a place is a copy of the process that boots it, and may allocate, so that process
//! must have a single thread. And as what is copied lies in the place's memory, the process should
//! know nothing: a nursery sees specs, and nothing of what runs in its places.

use std::collections::HashMap;
use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agentkernel_core::{Life, Place, Remains, Usage};
use agentkernel_engine::{Dial, DialError, Engine, EngineError, Lines};
use agentkernel_pool::Spare;
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{process, socket};
use agentkernel_wire::{NurseryReply, NurseryRequest, PlaceRecord, SpecRecord, micros};

/// How long a boot or a destruction may take: longer than any backend has patience for a step of it.
const PATIENCE: Duration = Duration::from_secs(300);

/// A nursery, as the daemon sees it.
pub struct Nursery {
    /// None once it is lost: what it may still say would be taken for the answer to something else.
    lines: Mutex<Option<Lines>>,
    child: Mutex<Child>,
    /// Keeps the thread that it must not outlive.
    _nurse: Nurse,
}

/// The names of the variables that a nursery may know, by who wants them.
pub type Variables = &'static [&'static [&'static str]];

/// All nurseries: one for each processor, since each boots one place at a time.
pub struct Nurseries {
    slots: Vec<Mutex<Option<Arc<Nursery>>>>,
    next: AtomicUsize,
    nurse: Nurse,
}

/// The thread that starts nurseries. A nursery dies with the thread that has started it, which is how
/// the kernel understands it to die with its parent, and a pool's own threads end with the pool, while
/// some of its places may still be leased.
#[derive(Clone)]
struct Nurse(Sender<Sender<io::Result<(Child, OwnedFd)>>>);

/// A booted place that has run nothing.
pub struct Seat {
    link: OwnedFd,
    pub pid: i32,
    /// A [`PlaceRecord`].
    pub place: String,
    nursery: Arc<Nursery>,
}

impl Nurseries {
    /// Those know nothing of the daemon's variables but `variables`.
    pub fn start(variables: Variables) -> io::Result<Arc<Self>> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(8);
        let slots = (0..count).map(|_| Mutex::new(None)).collect();
        let nurse = Nurse::start(variables)?;
        Ok(Arc::new(Self { slots, next: AtomicUsize::new(0), nurse }))
    }

    /// How many boots can go on at once.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Boots a place from `spec`, a [`SpecRecord`].
    pub fn boot(&self, backend: &str, spec: &str) -> Result<Seat, String> {
        let nursery = self.any().map_err(|error| format!("no nursery can be started: {error}"))?;
        let request = NurseryRequest::Boot { backend: backend.into(), spec: spec.into() };
        match nursery.ask(&request) {
            Ok((NurseryReply::Booted { pid, place }, Some(link))) => {
                Ok(Seat { link, pid, place, nursery })
            }
            Ok((NurseryReply::Failed { why }, _)) => Err(why),
            Ok((other, _)) => Err(nursery.lose(&format!("it answered {other:?}"))),
            Err(why) => Err(why),
        }
    }

    /// The next nursery, which is started if there is none in its place.
    fn any(&self) -> io::Result<Arc<Nursery>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let mut slot = self.slots[at].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nursery) = slot.as_ref().filter(|nursery| nursery.is_well()) {
            return Ok(Arc::clone(nursery));
        }
        let nursery = Arc::new(Nursery::start(&self.nurse)?);
        *slot = Some(Arc::clone(&nursery));
        Ok(nursery)
    }
}

impl Nurse {
    /// It is there for as long as anybody has a copy of this.
    fn start(variables: Variables) -> io::Result<Self> {
        let (nurse, asked) = channel::<Sender<_>>();
        let start = move || {
            for answer in asked {
                // Who has asked waits for it.
                let _ = answer.send(start(variables));
            }
        };
        thread::Builder::new().name("nurse".into()).spawn(start)?;
        Ok(Self(nurse))
    }
}

/// Starts a nursery's process, and returns our end of its standard input.
fn start(variables: Variables) -> io::Result<(Child, OwnedFd)> {
    let (ours, theirs) = socket::pair()?;
    let child = Command::new("/proc/self/exe")
        .arg0("agentkerneld")
        // Whose it is, for people who look at the list of processes.
        .args(["nursery", &std::process::id().to_string()])
        .env_clear()
        .envs(
            variables
                .iter()
                .flat_map(|some| *some)
                .filter_map(|name| Some((name, env::var_os(name)?))),
        )
        .current_dir("/")
        .stdin(theirs)
        .stdout(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

impl Nursery {
    fn start(nurse: &Nurse) -> io::Result<Self> {
        let (answer, answered) = channel();
        // If the thread were gone, so would be the answer's other end.
        let _ = nurse.0.send(answer);
        let (child, ours) = answered.recv().map_err(io::Error::other)??;
        let lines = Mutex::new(Some(Lines::new(ours)));
        Ok(Self { lines, child: Mutex::new(child), _nurse: nurse.clone() })
    }

    fn ask(&self, request: &NurseryRequest) -> Result<(NurseryReply, Option<OwnedFd>), String> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = match &mut *lines {
            Some(lines) => ask(lines, request),
            None => return Err("its nursery is lost".into()),
        };
        // `lose` takes the lock, too.
        drop(lines);
        asked.map_err(|error| self.lose(&error.to_string()))
    }

    /// Gives up one that does not answer as it should, with all its places, and says so. Another
    /// takes its place.
    fn lose(&self, why: &str) -> String {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // It may be dead already.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        format!("the nursery is lost: {why}")
    }

    /// Whether it can be asked, as far as can be known without asking.
    fn is_well(&self) -> bool {
        // Whoever holds it right now is asking.
        let Ok(mut lines) = self.lines.try_lock() else { return true };
        let Some(open) = &*lines else { return false };
        let mut gone = [Interest::gone(open.as_fd())];
        if descriptor::poll(&mut gone, Some(Duration::ZERO)).unwrap_or(true) {
            *lines = None;
        }
        lines.is_some()
    }
}

fn ask(lines: &mut Lines, request: &NurseryRequest) -> io::Result<(NurseryReply, Option<OwnedFd>)> {
    lines.send(&request.to_line(), &[])?;
    let line = lines.receive(Some(Instant::now() + PATIENCE))?;
    let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
    let reply = NurseryReply::from_line(&line).map_err(io::Error::other)?;
    Ok((reply, lines.take_descriptors().into_iter().next()))
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Its places die with it, and their groups are removed by their keepers.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Seat {
    /// Ends it, waits until it is gone, and tells what it has used.
    pub fn end(self) -> Result<Remains, String> {
        match self.nursery.ask(&NurseryRequest::Destroy { pid: self.pid }) {
            Ok((NurseryReply::Destroyed { oom_kills, user_us, system_us, max_rss_bytes }, _)) => {
                let usage = Usage {
                    user: Duration::from_micros(user_us),
                    system: Duration::from_micros(system_us),
                    max_resident: max_rss_bytes,
                };
                Ok(Remains { usage, oom_kills })
            }
            Ok((NurseryReply::Failed { why }, _)) => Err(why),
            Ok((other, _)) => Err(self.nursery.lose(&format!("it answered {other:?}"))),
            // Then the place has died with it.
            Err(why) => Err(why),
        }
    }
}

impl Spare for Seat {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn destroy(self) {
        if let Err(why) = self.end() {
            eprintln!("agentkerneld: a sandbox of a pool could not be removed: {why}");
        }
    }
}

/// The nursery's own side: boots and destroys what it is asked to, over its standard input, until
/// that closes.
pub fn serve(engine: &Engine) -> io::Result<()> {
    // Whoever starts us may be killed.
    process::die_with_parent()?;
    // What is cleared away here could keep the next command from its processor. Where this is not
    // allowed, all is as fast as it was.
    let _ = process::give_way();
    let mut lines = Lines::new(io::stdin().as_fd().try_clone_to_owned()?);
    let mut places: HashMap<i32, Box<dyn Place>> = HashMap::new();
    // A cluster takes its time to clear away what was a place.
    agentkernel_far::wait_for_none();
    loop {
        // Nothing is said before there was an answer.
        agentkernel_far::await_beside(io::stdin().as_fd())?;
        let Some(line) = lines.receive(None)? else { return Ok(()) };
        let failed = |why: String| (NurseryReply::Failed { why }, None);
        let (reply, link) = match NurseryRequest::from_line(&line) {
            Ok(NurseryRequest::Boot { backend, spec }) => match boot(engine, &backend, &spec) {
                Ok((place, link)) => {
                    let record = PlaceRecord::of(&*place);
                    let pid = place.pid();
                    places.insert(pid, place);
                    (NurseryReply::Booted { pid, place: record.to_json() }, Some(link))
                }
                Err(error) => failed(error.why),
            },
            Ok(NurseryRequest::Destroy { pid }) => match places.remove(&pid) {
                Some(place) => match place.destroy() {
                    Ok(remains) => (destroyed(&remains), None),
                    Err(error) => failed(error.to_string()),
                },
                None => failed(format!("there is no place {pid}")),
            },
            Err(error) => failed(error),
        };
        let link: Vec<_> = link.iter().map(AsFd::as_fd).collect();
        lines.send(&reply.to_line(), &link)?;
    }
}

fn boot(
    engine: &Engine,
    backend: &str,
    spec: &str,
) -> Result<(Box<dyn Place>, OwnedFd), EngineError> {
    let backend = engine.select(Some(backend))?;
    let spec = SpecRecord::from_json(spec).and_then(TryInto::try_into);
    let spec = spec.map_err(|error| EngineError::failed("can't read the pool's spec", &error))?;
    let place = backend.boot_live(&spec, Life::default())?;
    let link = place.link().try_clone_to_owned();
    let link = link.map_err(|error| EngineError::failed("can't reach the sandbox", &error))?;
    let dial = Dial::greeted(link).map_err(|error| match error {
        DialError::Unready { step, error } => place.explain(step, error).into(),
        other => EngineError::from(other),
    })?;
    Ok((place, dial.into_link()))
}

fn destroyed(remains: &Remains) -> NurseryReply {
    NurseryReply::Destroyed {
        oom_kills: remains.oom_kills,
        user_us: micros(remains.usage.user),
        system_us: micros(remains.usage.system),
        max_rss_bytes: remains.usage.max_resident,
    }
}
