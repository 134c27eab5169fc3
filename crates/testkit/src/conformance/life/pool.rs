//! What sandboxes of one pool have in common, and what not.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::running::patiently;
use crate::{Behaviour, Captured, NotPassed, Route, Running, Scratch, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[Behaviour::new(
    "pool-of-strangers",
    "sandboxes of one pool that are used at once share no file and no random number, know the time, \
     and are used by one command each",
    &[],
    pool_of_strangers,
)
.only(Route::Pool, "it is about pools")];

/// Fifty machines would else have more memory than this one.
fn flags(subject: &Subject) -> &'static [&'static str] {
    if subject.has_own_kernel() { &["--memory", "64m"] } else { &[] }
}

/// As many as are made in a while: of the kernel's own, of one machine's copies, of an engine's, or of
/// machines that boot.
fn many(subject: &Subject) -> usize {
    let boots = std::env::var_os("FIRECRACKER_SNAPSHOTS").is_some_and(|value| value == "none");
    match (subject.has_own_kernel(), subject.has_engine()) {
        (true, _) if !boots => 50,
        (false, false) => 20,
        _ => 3,
    }
}

fn pool_of_strangers(subject: &Subject) -> Verdict {
    let (scratch, many) = (subject.scratch()?, many(subject));
    fill(subject, &scratch, many)?;
    let script = "test -e /tmp/mark && echo used; echo mark > /tmp/mark; \
                  head -c 16 /dev/urandom | od -An -tx1; date +%s; echo there; read go";
    let start = |number: usize| {
        let report = scratch.path().join(format!("report-{number}"));
        let mut run = subject.agentkernel(&scratch);
        run.args(["run", "-B", &subject.backend]).args(flags(subject)).arg("--report").arg(&report);
        run.args(["--", "sh", "-c", script]).stdin(Stdio::piped());
        let mut running = Running::start(run)?.within(patiently(Duration::from_secs(60)));
        running.until("there")?;
        Ok::<_, NotPassed>((running, report))
    };
    let before = seconds();
    let started: Result<Vec<_>, _> = (0..many).map(start).collect();
    let mut numbers = HashSet::new();
    for (running, report) in started? {
        let got = running.finish()?;
        let text = got.exits(1)?.complains("")?.text();
        let lines: Vec<&str> = text.lines().collect();
        let [random, date, "there"] = lines[..] else {
            return Err(NotPassed::Failed(format!("it is not as one that was never used: {got}")));
        };
        ensure!(random.len() > 40 && numbers.insert(random.to_owned()), "a twin: {got}");
        let date = date.parse().unwrap_or(0);
        // A machine's clock is behind by as long as it took to tell it the time.
        ensure!((before - 1..=seconds()).contains(&date), "it is not {before}: {got}");
        let report: Value = serde_json::from_slice(&std::fs::read(report)?).unwrap_or_default();
        ensure!(report["route"]["kind"] == "pool", "it is of no pool: {report}");
    }
    Ok(())
}

/// Makes a pool of `many`, and waits until all of them are ready.
fn fill(subject: &Subject, scratch: &Scratch, many: usize) -> Verdict {
    let agentkernel = |words: &[&str]| {
        let mut command = subject.agentkernel(scratch);
        command.args(words);
        Captured::of(command)
    };
    agentkernel(&["daemon", "start", "-b"])?.exits(0)?;
    let size = many.to_string();
    let pool =
        [&["pool", "set", "strangers", &size, "-B", &subject.backend], flags(subject)].concat();
    agentkernel(&pool)?.exits(0)?;
    let until = Instant::now() + patiently(Duration::from_secs(60));
    loop {
        let got = agentkernel(&["pool", "ls", "--json"])?;
        let pools: Value = serde_json::from_slice(&got.exits(0)?.stdout).unwrap_or_default();
        let text = pools.to_string();
        if text.contains(&format!("\"ready\":{many}")) {
            return Ok(());
        }
        ensure!(text.contains("\"failures\":0"), "the pool can't be filled: {got}");
        ensure!(Instant::now() < until, "the pool is not full: {got}");
        #[expect(clippy::disallowed_methods, reason = "whoever fills it needs the processor, too")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
