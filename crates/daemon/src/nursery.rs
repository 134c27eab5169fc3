//! Processes in which places are booted.
//!
//! The agent of a place is a copy of the process that boots it, and may allocate, so that process
//! must have a single thread. And as what is copied lies in the place's memory, the process should
//! know nothing: a nursery sees specs, and nothing of what runs in its places.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentkernel_core::{Life, Place, Remains, Usage};
use agentkernel_engine::{Dial, DialError, Engine, EngineError, Lines};
use agentkernel_pool::Spare;
use agentkernel_sys::{process, socket};
use agentkernel_wire::{NurseryReply, NurseryRequest, PlaceRecord, SpecRecord, micros};

/// How long a boot or a destruction may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A nursery, as the daemon sees it.
pub struct Nursery {
    lines: Mutex<Lines>,
    child: Mutex<Child>,
}

/// All nurseries: one for each processor, since each boots one place at a time.
pub struct Nurseries {
    slots: Vec<Mutex<Option<Arc<Nursery>>>>,
    next: AtomicUsize,
}

/// A booted place that has run nothing.
pub struct Seat {
    link: OwnedFd,
    pub pid: i32,
    /// A [`PlaceRecord`].
    pub place: String,
    nursery: Arc<Nursery>,
}

impl Nurseries {
    pub fn new() -> Arc<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let slots = (0..count).map(|_| Mutex::new(None)).collect();
        Arc::new(Self { slots, next: AtomicUsize::new(0) })
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
            Ok((other, _)) => Err(format!("the nursery answered {other:?}")),
            Err(error) => {
                self.give_up(&nursery);
                Err(format!("the nursery is lost: {error}"))
            }
        }
    }

    /// The next nursery, which is started if there is none in its place.
    fn any(&self) -> io::Result<Arc<Nursery>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let mut slot = self.slots[at].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nursery) = &*slot {
            return Ok(Arc::clone(nursery));
        }
        let nursery = Arc::new(Nursery::start()?);
        *slot = Some(Arc::clone(&nursery));
        Ok(nursery)
    }

    /// Has another take the place of one that does not answer.
    fn give_up(&self, lost: &Arc<Nursery>) {
        for slot in &self.slots {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.as_ref().is_some_and(|nursery| Arc::ptr_eq(nursery, lost)) {
                *slot = None;
            }
        }
    }
}

impl Nursery {
    fn start() -> io::Result<Self> {
        let (ours, theirs) = socket::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("agentkerneld")
            // Whose it is, for people who look at the list of processes.
            .args(["nursery", &std::process::id().to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { lines: Mutex::new(Lines::new(ours)), child: Mutex::new(child) })
    }

    fn ask(&self, request: &NurseryRequest) -> io::Result<(NurseryReply, Option<OwnedFd>)> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.send(&request.to_line(), &[])?;
        let line = lines.receive(Some(Instant::now() + PATIENCE))?;
        let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
        let reply = NurseryReply::from_line(&line).map_err(io::Error::other)?;
        Ok((reply, lines.take_descriptors().into_iter().next()))
    }
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
            Ok((other, _)) => Err(format!("the nursery answered {other:?}")),
            // Then the place has died with it.
            Err(error) => Err(format!("the nursery is lost: {error}")),
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
    let mut lines = Lines::new(io::stdin().as_fd().try_clone_to_owned()?);
    let mut places: HashMap<i32, Box<dyn Place>> = HashMap::new();
    while let Some(line) = lines.receive(None)? {
        let failed = |why: String| (NurseryReply::Failed { why }, None);
        let (reply, link) = match NurseryRequest::from_line(&line) {
            Ok(NurseryRequest::Boot { backend, spec }) => match boot(engine, &backend, &spec) {
                Ok((place, link)) => {
                    let record = PlaceRecord::new(
                        place.walls(),
                        place.limits(),
                        place.notes(),
                        place.groups(),
                    );
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
    Ok(())
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
