//! A lease taken out of a pool in process: what a hand-out costs, and nothing of a run.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use agentkernel_pool::{Pool, Settings, Spare};

use crate::control::Control;
use crate::report::section_name;
use crate::result::{ALL, Case, POOL, Section};
use crate::turns::Found;

/// A quarter of it is taken at a time, so that it is never low.
const SIZE: usize = 2048;
const TAKEN: usize = SIZE / 4;

const PATIENCE: Duration = Duration::from_secs(60);

/// Something that stands for a booted place, with a descriptor as a place has one.
struct Stand {
    link: OwnedFd,
    /// Open, or the pool would take it for one that has died.
    _agent: OwnedFd,
}

impl Spare for Stand {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn destroy(self) {}
}

/// Times single hand-outs, by one thread and by eight at once. The one pool serves every backend.
pub fn hand_out(rounds: u64, control: &Control) -> Result<Vec<Case>, String> {
    let boot =
        || agentkernel_sys::descriptor::pipe().map(|(link, agent)| Stand { link, _agent: agent });
    let pool = Pool::start(&Settings::new(SIZE), boot).map_err(|error| error.to_string())?;
    let mut cases = Vec::new();
    for threads in [1, 8] {
        control.begin(format!("{} by {threads}", section_name(Section::HandOut)), rounds);
        let mut case = Case {
            at_once: threads as u64,
            values: [("clock".to_owned(), clock())].into(),
            ..Case::ours(Section::HandOut, ALL, POOL)
        };
        for _ in 0..rounds {
            if control.is_stopped() {
                break;
            }
            if !pool.wait_until(PATIENCE, |status| status.ready == SIZE && status.booting == 0) {
                return Err(format!("the pool does not fill: {:?}", pool.status()));
            }
            acquire(&pool, threads).into_iter().for_each(|outcome| case.add(outcome));
            control.advance();
        }
        cases.push(case);
    }
    pool.stop();
    Ok(cases)
}

fn acquire(pool: &Pool<Stand>, threads: usize) -> Vec<Result<Found, String>> {
    let begin = Barrier::new(threads);
    let life = || {
        let mut leases = Vec::with_capacity(TAKEN / threads);
        begin.wait();
        for _ in 0..TAKEN / threads {
            let start = Instant::now();
            let lease = pool.acquire();
            let took = start.elapsed().as_nanos() as u64;
            leases.push((lease, took));
        }
        let outcome = |(lease, took): (Option<_>, u64)| match lease {
            Some(_) => Ok(vec![("acquire", took)]),
            None => Err("the pool was empty".to_owned()),
        };
        leases.into_iter().map(outcome).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(life)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// What reading the clock costs, in nanoseconds: it is in every sample.
fn clock() -> f64 {
    const TIMES: u32 = 10_000;
    let start = Instant::now();
    (0..TIMES).for_each(|_| _ = std::hint::black_box(Instant::now()));
    start.elapsed().as_nanos() as f64 / f64::from(TIMES)
}
