//! The daemon, killed with -9 at random moments under load: nothing is left behind, nothing lost,
//! and no command runs twice.
//!
//! `AGENTKERNEL_KILL_ROUNDS` says how often; 200 unless it is set.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Home, family, groups, pause};

const NAMED: [&str; 2] = ["first", "second"];

/// What the load's runs came to.
#[derive(Default)]
struct Tally {
    good: AtomicU32,
    /// Killed while their command may have been running, which they said.
    lost: AtomicU32,
    wrong: Mutex<Vec<String>>,
    next: AtomicU32,
}

#[test]
fn killed_at_random_moments_it_leaves_nothing_and_loses_nothing() {
    let home = Home::new("killed");
    if home.client().is_none() {
        println!("skipped: agentkernel was not built beside agentkerneld");
        return;
    }
    let rounds = std::env::var("AGENTKERNEL_KILL_ROUNDS").ok();
    let rounds: u32 = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    home.must(&["pool", "set", "pool", "4"]);
    for name in NAMED {
        home.must(&["create", name]);
        home.must(&["start", name]);
        home.must(&["exec", name, "--", "sh", "-c", "echo kept > ~/file"]);
    }
    let (tally, done) = (Tally::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    run_one(&home, &tally);
                }
            });
        }
        let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds {
                kill_one(&home, round, &mut random);
            }
        }));
        done.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    judge(&home, &tally);
    for name in NAMED {
        assert_eq!(home.must(&["exec", name, "--", "cat", "/home/agent/file"]), "kept\n");
        home.must(&["rm", "-f", name]);
    }
    let (good, lost) = (tally.good.load(Ordering::Relaxed), tally.lost.load(Ordering::Relaxed));
    println!("{rounds} rounds, {good} runs good, {lost} told as lost");
    assert!(good > 0, "nothing ran");
}

/// Runs a command that leaves a mark, which must be there once if the run succeeded, and at most
/// once otherwise.
fn run_one(home: &Home, tally: &Tally) {
    let number = tally.next.fetch_add(1, Ordering::Relaxed);
    let script = format!("echo {number} >> marks");
    let output = home.run(&["run", "--project=.:rw", "--", "sh", "-c", &script]);
    match output.status.code() {
        Some(0) => {
            tally.good.fetch_add(1, Ordering::Relaxed);
        }
        Some(125) if String::from_utf8_lossy(&output.stderr).contains("lost") => {
            tally.lost.fetch_add(1, Ordering::Relaxed);
        }
        _ => tally.wrong.lock().unwrap().push(format!("{number}: {output:?}")),
    }
}

/// Starts a daemon, kills it after a random time, and waits until all that was its own has gone.
fn kill_one(home: &Home, round: u32, random: &mut u64) {
    let mut daemon = home.daemon();
    let pid = daemon.id();
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let until = Instant::now() + Duration::from_micros(*random % 80_000);
    while Instant::now() < until {
        thread::yield_now();
    }
    let before = family(pid);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let (alive, left) = (family(pid), groups(&before));
        if alive.is_empty() && left.is_empty() {
            return;
        }
        assert!(Instant::now() < patience, "round {round}: processes {alive:?}, groups {left:?}");
        pause();
    }
}

fn judge(home: &Home, tally: &Tally) {
    let wrong = tally.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let marks = fs::read_to_string(home.path("work/marks")).unwrap();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    marks.lines().for_each(|mark| *counts.entry(mark).or_default() += 1);
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "run more than once: {twice:?}");
    let (good, lost) = (tally.good.load(Ordering::Relaxed), tally.lost.load(Ordering::Relaxed));
    let marks = counts.len() as u32;
    assert!((good..=good + lost).contains(&marks), "{good} good, {lost} lost, {marks} marks");
}
