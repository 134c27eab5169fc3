//! What it costs to take a lease that is ready.
//!
//! divan's table first: many calls timed together. Then, since what matters to one caller is one
//! call, percentiles of calls timed one by one, which go to the file `$AGENTKERNEL_BENCH_JSON` too.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Barrier, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use agentkernel_pool::{Lease, MAX_SIZE, Pool, Settings, Spare};
use divan::Bencher;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// The largest there is, so that threads which take at once have long enough to meet.
const SIZE: usize = MAX_SIZE;

/// What is taken before the pool is filled again. More than half of the pool is always left, so
/// nobody has to wake its threads.
const TAKEN: usize = SIZE / 2;

/// How often the pool is emptied by that many and filled again.
const ROUNDS: usize = 40;

/// As large as a place with its paths, and with a descriptor of its own.
struct Fake {
    voice: OwnedFd,
    _rest: [u64; 16],
}

impl Spare for Fake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.voice.as_fd()
    }

    fn destroy(self) {}
}

static POOL: LazyLock<Pool<Fake>> = LazyLock::new(|| {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .unwrap_or_else(|error| panic!("can't have more open files: {error}"));
    let boot = || eventfd(0, EventfdFlags::CLOEXEC).map(|voice| Fake { voice, _rest: [0; 16] });
    Pool::start(&Settings::new(SIZE), boot).unwrap_or_else(|error| panic!("{error}"))
});

fn full() -> &'static Pool<Fake> {
    let full = POOL.wait_until(Duration::from_secs(60), |s| s.ready == SIZE && s.booting == 0);
    assert!(full, "the pool does not fill: {:?}", POOL.status());
    &POOL
}

// Leases are dropped, and the pool filled, between the samples.
#[divan::bench(threads = [1, 8], sample_size = 64, sample_count = 800)]
fn acquire(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(full).bench_values(|pool| pool.acquire());
}

#[divan::bench(threads = [1, 8], sample_size = 64, sample_count = 800)]
fn into_inner(bencher: Bencher<'_, '_>) {
    // Not all the pool: those that were leased for this sample are missing.
    let lease = || {
        POOL.wait_until(Duration::from_secs(60), |status| status.ready > 0);
        POOL.acquire()
    };
    bencher.with_inputs(lease).bench_values(|lease| lease.map(Lease::into_inner));
}

/// How long single calls took, in nanoseconds, as the clock told it.
struct Samples(Vec<u64>);

impl Samples {
    fn percentile(&self, part: f64) -> u64 {
        self.0[((self.0.len() - 1) as f64 * part) as usize]
    }

    /// What the clock's own cost, at its median, leaves of them.
    fn summary(&self, clock: u64) -> Value {
        let net = |part| self.percentile(part).saturating_sub(clock);
        json!({
            "calls": self.0.len(), "p50": net(0.5), "p90": net(0.9), "p99": net(0.99),
            "p999": net(0.999), "most": net(1.0),
        })
    }

    /// Pairs of a time and how many calls took it.
    fn histogram(&self) -> Vec<(u64, usize)> {
        let mut counts = BTreeMap::new();
        self.0.iter().for_each(|time| *counts.entry(*time).or_default() += 1);
        counts.into_iter().collect()
    }
}

fn timed<T>(call: impl FnOnce() -> T) -> (T, u64) {
    let start = Instant::now();
    let result = call();
    let took = start.elapsed();
    (result, took.as_nanos() as u64)
}

/// Times nothing.
fn clock() -> Samples {
    sorted((0..ROUNDS * TAKEN).map(|_| timed(|| ()).1).collect())
}

fn sorted(mut times: Vec<u64>) -> Samples {
    times.sort_unstable();
    Samples(times)
}

/// Times what so many threads take at once, each its part, and keep until the round is over.
fn acquired_by(threads: usize) -> Samples {
    let each = TAKEN / threads;
    let (begin, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let life = || {
        let mut times = Vec::with_capacity(ROUNDS * each);
        for _ in 0..ROUNDS {
            let mut leases = Vec::with_capacity(each);
            begin.wait();
            for _ in 0..each {
                let (lease, took) = timed(|| POOL.acquire());
                assert!(lease.is_some(), "the pool is empty");
                leases.push(lease);
                times.push(took);
            }
            end.wait();
        }
        times
    };
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(life)).collect();
        for _ in 0..ROUNDS {
            full();
            begin.wait();
            end.wait();
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    sorted(times)
}

/// Times what so many threads take while the pool is filled beside, with all the wakes that this
/// needs. How often it was empty is in the pool's own count.
fn acquired_while_filling(threads: usize) -> Samples {
    let each = ROUNDS * TAKEN / threads;
    let begin = Barrier::new(threads);
    let life = || {
        let mut times = Vec::with_capacity(each);
        begin.wait();
        while times.len() < each {
            match timed(|| POOL.acquire()) {
                (Some(_), took) => times.push(took),
                (None, _) => thread::yield_now(),
            }
        }
        times
    };
    full();
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(life)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    sorted(times)
}

fn main() {
    divan::main();
    let clock = clock();
    let cost = clock.percentile(0.5);
    let mut cases = vec![("clock", 1, clock)];
    cases.extend([1, 8].map(|threads| ("acquire", threads, acquired_by(threads))));
    cases.extend([1, 8].map(|threads| ("while-filling", threads, acquired_while_filling(threads))));
    let cases: Vec<Value> = cases
        .iter()
        .map(|(name, threads, samples)| {
            // The clock is told as it is, so that everybody can add it again.
            let subtracted = if *name == "clock" { 0 } else { cost };
            let summary = samples.summary(subtracted);
            println!("{name} by {threads}, less {subtracted} ns of the clock: {summary}");
            json!({
                "name": name, "threads": threads, "clock_ns": subtracted, "net_ns": summary,
                "histogram_ns": samples.histogram(),
            })
        })
        .collect();
    if let Some(path) = std::env::var_os("AGENTKERNEL_BENCH_JSON") {
        let cpus = thread::available_parallelism().map_or(0, usize::from);
        let document = json!({ "pool": SIZE, "cpus": cpus, "cases": cases });
        std::fs::write(path, format!("{document}\n")).unwrap_or_else(|error| panic!("{error}"));
    }
    POOL.stop();
}
