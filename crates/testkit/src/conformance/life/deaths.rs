//! Ends that nobody asked for: kills from outside, and the end of a sandbox's time.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Home, SOON, life};
use crate::host::{Orphanage, Process, Remains, unique_sleep};
use crate::running::patiently;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Running, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    life(
        "killed-first-process",
        "when a sandbox's first process is killed, ps says so, and only its files are left",
        killed_first_process,
    )
    .alone(),
    life(
        "killed-maker",
        "when start is killed at any time, the sandbox runs or does not, and nothing else is left",
        killed_maker,
    )
    .alone(),
    life(
        "killed-creator",
        "when create is killed at any time, the sandbox is there as a whole or not at all",
        killed_creator,
    )
    .alone(),
    life(
        "killed-stopper",
        "when stop or rm -f is killed at any time, the next one finishes it",
        killed_stopper,
    )
    .alone(),
    life(
        "ttl-ends-it",
        "at the end of its time a sandbox is ended and removed, without a daemon",
        ttl_ends_it,
    ),
    life(
        "idle-ends-it",
        "a sandbox that nobody used for its idle time is ended and removed, and no other is",
        idle_ends_it,
    ),
    life(
        "idle-begins-after-the-background",
        "a sandbox in which something goes on in the background is not idle",
        idle_begins_after_the_background,
    ),
    life(
        "ttl-of-one-that-is-not-running",
        "a sandbox that was never started is removed at the end of its time as well",
        ttl_of_one_that_is_not_running,
    ),
];

/// What is watched while sandboxes die.
struct Deathbed<'a> {
    home: Home<'a>,
    orphanage: Orphanage,
    before: Remains,
}

impl<'a> Deathbed<'a> {
    fn new(subject: &'a Subject) -> Result<Self, NotPassed> {
        let home = Home::new(subject)?;
        // The store is there before and stays.
        let name = home.started(&NO_FLAGS)?;
        home.does(&["rm", "-f", &name])?;
        let orphanage = Orphanage::open()?;
        let before = Remains::look(&orphanage, &home.scratch);
        Ok(Self { home, orphanage, before })
    }

    /// Nothing lives, and there are no groups, mounts or sockets.
    fn is_quiet(&self, what: &str) -> Verdict {
        let empty = self.orphanage.empties_within(patiently(SOON))?;
        ensure!(empty, "still running after {what}: {:?}", self.orphanage.inmates());
        // The first look puts away what the dead have left, once their lock is gone with them.
        self.home.listed()?;
        let sockets = self.home.names_in("runtime/agentkernel/sandboxes");
        ensure!(sockets.is_empty(), "sockets were left by {what}: {sockets:?}");
        if self.home.subject.has_pods() {
            // One that is kept has its control groups until it is removed.
            return Ok(());
        }
        let patience = self.home.subject.patience_for_engine();
        let groups = Remains::groups_left_within(patience, &self.before)?;
        ensure!(groups.is_empty(), "left behind by {what}: {}", groups.join("; "));
        Ok(())
    }

    /// The same, and there is no file either.
    fn is_empty(&self, what: &str) -> Verdict {
        self.is_quiet(what)?;
        let left = self.left()?;
        ensure!(left.is_empty(), "left behind by {what}: {}", left.join("; "));
        Ok(())
    }

    /// Whether a sandbox lives on whose maker was killed. One that dies along with it may be seen for
    /// a moment.
    fn lives(&self, name: &str, what: &str) -> Result<bool, NotPassed> {
        let until = Instant::now() + patiently(SOON);
        loop {
            let state = self.home.listed_as(name)?["state"].clone();
            match state.as_str() {
                Some("running") if self.home.shell(name, "true")?.status.success() => {
                    return Ok(true);
                }
                Some("running") if Instant::now() < until => {}
                // It is stopped where it was written down as running, and not let go yet.
                Some("created" | "stopped") => return Ok(false),
                _ => return Err(NotPassed::Failed(format!("after {what} it is {state}"))),
            }
        }
    }

    fn left(&self) -> Result<Vec<String>, NotPassed> {
        let patience = self.home.subject.patience_for_engine();
        Remains::left_within(patience, &self.orphanage, &self.home.scratch, &self.before)
    }

    /// How long this takes, at least.
    fn usual(
        &self,
        step: impl Fn(&str) -> Result<Captured, NotPassed>,
    ) -> Result<Duration, NotPassed> {
        let mut least = Duration::MAX;
        for _ in 0..3 {
            let name = self.home.created(&NO_FLAGS)?;
            least = least.min(step(&name)?.took);
            self.home.does(&["rm", "-f", &name])?;
        }
        Ok(least)
    }
}

/// Kills a program after `delay`, unless it has ended before.
fn kill_after(running: Running, delay: Duration) -> Verdict {
    running.ends_within(delay)?;
    running.signal(Signal::KILL)?;
    let mut running = running;
    running.wait().map(drop)
}

fn killed_first_process(subject: &Subject) -> Verdict {
    let bed = Deathbed::new(subject)?;
    let home = &bed.home;
    for paused in [false, true] {
        let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
        let running =
            home.begun(&name, &format!("echo kept > ~/file; echo begun; sleep {mark}"))?;
        if paused {
            home.does(&["pause", &name])?;
        }
        let pid = home.listed_as(&name)?["pid"].as_u64().unwrap_or_default();
        let first = Process::find(u32::try_from(pid).unwrap_or_default());
        let Some(first) = first.filter(|first| first.numbers.last() == Some(&1)) else {
            return Err(NotPassed::Failed(format!("{pid} is no sandbox's first process")));
        };
        first.signal(Signal::KILL)?;
        running.finish()?.exits(125)?.mentions("error: ")?.takes_less_than(SOON)?;
        // Its link closes before it is gone.
        ensure!(first.ends_within(patiently(SOON))?, "it outlives SIGKILL: {first:?}");
        let listed = home.listed_as(&name)?;
        ensure!(listed["state"] == "stopped" && listed["pid"].is_null(), "it is dead: {listed}");
        ensure!(!listed["ended"].is_null(), "it is stopped for no reason: {listed}");
        bed.is_quiet("a kill")?;
        home.does(&["start", &name])?;
        home.shell(&name, "cat ~/file")?.exits(0)?.prints("kept\n")?;
        home.does(&["rm", "-f", &name])?;
        bed.is_empty("a kill and rm")?;
    }
    Ok(())
}

fn killed_maker(subject: &Subject) -> Verdict {
    let bed = Deathbed::new(subject)?;
    let home = &bed.home;
    let usual = bed.usual(|name| home.run(&["start", name]))?;
    let (mut ran, mut did_not) = (0, 0);
    // An engine takes a thousand times as long for it, and most of that by itself.
    let steps: u32 = match (subject.sampled, subject.has_engine()) {
        (true, _) => 8,
        (false, true) => 16,
        (false, false) => 32,
    };
    // From right after the start to past the usual end, and at last long past it.
    let delays = (0..steps).map(|step| usual * step * 4 / (steps * 3)).chain([usual * 8]);
    for delay in delays {
        let name = home.created(&NO_FLAGS)?;
        kill_after(home.start(&["start", &name])?, delay)?;
        let what = format!("a start that was killed after {delay:?}");
        if bed.lives(&name, &what)? {
            ran += 1;
        } else {
            did_not += 1;
            bed.is_quiet(&what)?;
            home.does(&["start", &name])?;
            home.shell(&name, "echo there")?.exits(0)?.prints("there\n")?;
        }
        home.does(&["rm", "-f", &name])?;
        bed.is_empty(&format!("{what} and rm"))?;
    }
    ensure!(ran > 0 && did_not > 0, "{ran} ran and {did_not} did not, so too little is shown");
    Ok(())
}

fn killed_creator(subject: &Subject) -> Verdict {
    let bed = Deathbed::new(subject)?;
    let home = &bed.home;
    let usual = home.run(&["create", "usual"])?.took;
    home.does(&["rm", "usual"])?;
    let steps: u32 = if subject.sampled { 12 } else { 24 };
    for step in 0..steps {
        kill_after(home.start(&["create", "--start", "maybe"])?, usual * step * 4 / steps)?;
        if !home.listed_as("maybe")?.is_null() {
            home.does(&["rm", "-f", "maybe"])?;
        }
        bed.is_empty("a create that was killed")?;
    }
    let verified = home.run(&["audit", "verify"])?;
    verified.exits(0)?;
    Ok(())
}

fn killed_stopper(subject: &Subject) -> Verdict {
    let bed = Deathbed::new(subject)?;
    let home = &bed.home;
    for end in [&["stop"][..], &["rm", "-f"]] {
        for step in (0..10_u64).step_by(if subject.sampled { 3 } else { 1 }) {
            let name = home.started(&NO_FLAGS)?;
            let number = home.background(&name, "exec sleep 60")?;
            home.does(&["ps", &name]).map(drop)?;
            ensure!(!number.is_empty(), "nothing runs inside");
            let ending = [end, &[&name]].concat();
            kill_after(home.start(&ending)?, Duration::from_millis(step))?;
            if !home.listed_as(&name)?.is_null() {
                home.does(&["rm", "-f", &name])?;
            }
            // Killed between a sandbox's record and its lock, it leaves the lock.
            home.does(&["prune", "-f"])?;
            bed.is_empty(&format!("{end:?} that was killed after {step} ms"))?;
        }
    }
    Ok(())
}

fn ttl_ends_it(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let time = subject.a_while(Duration::from_millis(1500));
    let ttl = format!("{}ms", time.as_millis());
    let (name, mark) = (home.started(&["--ttl", &ttl])?, unique_sleep());
    let other = home.started(&NO_FLAGS)?;
    let script = format!("trap '' TERM; echo begun; exec sleep {mark}");
    let running = home.begun(&name, &script)?;
    home.run(&["wait", &name])?.takes_less_than(time + SOON)?;
    running.finish()?.takes_less_than(time + SOON)?;
    let left = Process::sleeping(&mark);
    ensure!(left.is_empty(), "still running after its time: {left:?}");
    ensure!(home.listed_as(&name)?.is_null(), "it is still there");
    home.is(&other, "running")?;
    home.refuses(&["exec", &name, "--", "true"], &[&name])?;
    home.does(&["rm", "-f", &other])?;
    let traces = home.traces();
    ensure!(traces.is_empty(), "it has left {traces:?}");
    Ok(())
}

fn idle_ends_it(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let time = subject.a_while(Duration::from_millis(800));
    let idle = format!("{}ms", time.as_millis());
    let (name, other) = (home.started(&["--idle", &idle])?, home.started(&NO_FLAGS)?);
    home.shell(&name, &format!("sleep {}", (time * 2).as_secs_f32()))?.exits(0)?;
    home.is(&name, "running")?;
    home.run(&["wait", &name])?.takes_less_than(time + SOON)?;
    ensure!(home.listed_as(&name)?.is_null(), "it is still there");
    home.is(&other, "running")
}

fn idle_begins_after_the_background(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let time = subject.a_while(Duration::from_millis(800));
    let name = home.started(&["--idle", &format!("{}ms", time.as_millis())])?;
    home.background(&name, &format!("sleep {}", (time * 2).as_secs_f32()))?;
    let waited = home.run(&["wait", &name])?;
    waited.takes_less_than(time * 3 + SOON)?;
    ensure!(waited.took >= time * 2, "it ended while a command ran: {waited}");
    ensure!(home.listed_as(&name)?.is_null(), "it is still there");
    Ok(())
}

fn ttl_of_one_that_is_not_running(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let time = subject.a_while(Duration::from_millis(600));
    let ttl = format!("{}ms", time.as_millis());
    let (name, other) = (home.created(&["--ttl", &ttl])?, home.started(&NO_FLAGS)?);
    home.is(&name, "created")?;
    let waiting = home.begun(&other, "echo begun; sleep 60")?;
    ensure!(!waiting.ends_within(time)?, "nothing waits");
    home.refuses(&["start", &name], &[&name])?;
    ensure!(home.listed_as(&name)?.is_null(), "it is still there");
    Ok(())
}
