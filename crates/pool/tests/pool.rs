//! What a pool promises, tried with fakes that have real descriptors.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod fake;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use agentkernel_pool::{MAX_AT_ONCE, MAX_SIZE, Pool, PoolError, Settings, Spare, Status};
use fake::{Failure, Fake, World};

/// How long to wait for what must come.
const LIMIT: Duration = Duration::from_secs(60);

fn start(settings: &Settings, world: &Arc<World>) -> Pool<Fake> {
    let world = world.clone();
    Pool::start(settings, move || world.boot()).unwrap()
}

fn full(size: usize, world: &Arc<World>) -> Pool<Fake> {
    let pool = start(&Settings::new(size), world);
    expect(&pool, |status| status.ready == size);
    pool
}

fn expect(pool: &Pool<Fake>, wanted: impl Fn(&Status) -> bool) {
    assert!(pool.wait_until(LIMIT, wanted), "waited in vain: {:?}", pool.status());
}

/// A boot that says that it has begun, and goes on when it is told to.
struct Gate {
    begun: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
}

fn start_gated(size: usize, world: &Arc<World>) -> (Pool<Fake>, Gate) {
    let (tell, begun) = mpsc::channel();
    let (open, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let world = world.clone();
    let pool = Pool::start(&Settings::new(size), move || {
        tell.send(()).unwrap();
        // Ends too when the gate is gone.
        let _ = wait.lock().unwrap().recv();
        world.boot()
    });
    (pool.unwrap(), Gate { begun, open })
}

#[test]
fn a_spare_never_has_two_owners_even_if_many_die_or_get_too_old() {
    const THREADS: usize = 8;
    const EACH: usize = 12_500;
    let world = World::new();
    let mut settings = Settings::new(150);
    settings.max_age = Duration::from_millis(3);
    let pool = start(&settings, &world);
    let owned = Mutex::new(HashSet::new());
    let begin = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                begin.wait();
                let mut mine = 0;
                while mine < EACH {
                    let Some(lease) = pool.acquire() else {
                        thread::yield_now();
                        continue;
                    };
                    mine += 1;
                    let number = lease.spare().number;
                    assert!(owned.lock().unwrap().insert(number), "{number} was owned before");
                    if number % 7 == 0 {
                        world.make_unwell(number + 20);
                    }
                    if number % 2 == 0 {
                        lease.into_inner().destroy();
                    }
                }
            });
        }
    });
    pool.stop();
    assert_eq!(owned.lock().unwrap().len(), THREADS * EACH);
    let status = pool.status();
    assert_eq!(status.handed_out, (THREADS * EACH) as u64);
    assert_eq!(status.boots, world.booted() as u64);
    assert!(status.handed_out + status.dead + status.aged <= status.boots);
    assert_eq!(world.live(), 0);
}

#[test]
fn the_oldest_is_handed_out_first() {
    let world = World::new();
    let mut settings = Settings::new(100);
    settings.at_once = 1;
    let pool = start(&settings, &world);
    expect(&pool, |status| status.ready == 100);
    for number in 0..500 {
        let lease = pool.acquire().unwrap();
        assert_eq!(lease.spare().number, number);
        drop(lease);
        expect(&pool, |status| status.ready == 100);
    }
}

#[test]
fn one_that_is_seen_unwell_is_replaced_and_never_handed_out() {
    let world = World::new();
    let pool = full(10, &world);
    for number in [0, 5, 9] {
        world.make_unwell(number);
    }
    expect(&pool, |status| status.dead == 3 && status.ready == 10);
    let numbers: Vec<usize> = (0..10).map(|_| pool.acquire().unwrap().spare().number).collect();
    assert!(!numbers.iter().any(|number| [0, 5, 9].contains(number)), "{numbers:?}");
}

#[test]
fn one_that_is_unwell_from_the_start_is_taken_out_again() {
    let world = World::new();
    let maker = world.clone();
    let pool = Pool::start(&Settings::new(4), move || {
        let fake = maker.boot()?;
        if fake.number < 8 {
            maker.make_unwell(fake.number);
        }
        Ok::<_, String>(fake)
    });
    let pool = pool.unwrap();
    expect(&pool, |status| status.dead == 8 && status.ready == 4);
    assert!(pool.acquire().unwrap().spare().number >= 8);
}

#[test]
fn what_talks_to_its_owner_is_no_matter_of_the_pool() {
    let world = World::new();
    let pool = full(2, &world);
    let lease = pool.acquire().unwrap();
    let owned = pool.acquire().unwrap().into_inner();
    world.make_unwell(lease.spare().number);
    world.make_unwell(owned.number);
    // An event later than theirs.
    expect(&pool, |status| status.ready == 2);
    world.make_unwell(2);
    expect(&pool, |status| status.dead > 0 && status.ready == 2 && status.removing == 0);
    assert_eq!(pool.status().dead, 1);
    assert_eq!(world.live(), 4);
    drop(lease);
    owned.destroy();
}

#[test]
fn those_that_are_too_old_are_replaced_though_nobody_acquires() {
    let world = World::new();
    let mut settings = Settings::new(4);
    settings.max_age = Duration::from_millis(20);
    let pool = start(&settings, &world);
    expect(&pool, |status| status.aged >= 12 && status.ready > 0);
    assert!(world.booted() >= 13);
    pool.stop();
    assert_eq!(world.live(), 0);
}

#[test]
fn a_pool_that_is_empty_says_so_and_counts_it() {
    let world = World::new();
    let (pool, gate) = start_gated(1, &world);
    gate.begun.recv().unwrap();
    assert!(pool.acquire().is_none());
    assert!(pool.acquire().is_none());
    let status = pool.status();
    assert_eq!((status.ready, status.booting, status.refused_empty), (0, 1, 2));
    gate.open.send(()).unwrap();
    expect(&pool, |status| status.ready == 1);
    assert!(pool.acquire().is_some());
    drop(gate);
}

#[test]
fn it_fills_again_when_a_lease_ends_or_when_half_is_gone() {
    let world = World::new();
    let pool = full(8, &world);
    pool.acquire().unwrap().into_inner().destroy();
    expect(&pool, |status| status.ready == 8);
    drop(pool.acquire());
    expect(&pool, |status| status.ready == 8);
    let kept: Vec<_> = (0..5).map(|_| pool.acquire().unwrap()).collect();
    expect(&pool, |status| status.ready == 8);
    drop(kept);
    assert_eq!(pool.status().handed_out, 7);
    assert_eq!(world.live(), 8);
}

#[test]
fn boots_that_fail_are_tried_again_after_waits_that_double() {
    let world = World::failing((0..5).map(|_| Failure::Error("no room")));
    let mut settings = Settings::new(3);
    settings.at_once = 1;
    settings.first_backoff = Duration::from_millis(2);
    settings.most_backoff = Duration::from_millis(10);
    let pool = start(&settings, &world);
    expect(&pool, |status| status.ready == 3);
    let status = pool.status();
    assert_eq!((status.failures, status.boots, status.last_failure), (5, 3, None));
    let tries = world.tries();
    for (number, wait) in [2, 4, 8, 10, 10].into_iter().enumerate() {
        let waited = tries[number + 1] - tries[number];
        assert!(waited >= Duration::from_millis(wait), "{number}: only {waited:?}");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_back_off() {
    let world = World::failing([Failure::Error("no room")]);
    let mut settings = Settings::new(1);
    settings.first_backoff = Duration::from_secs(3600);
    settings.most_backoff = Duration::from_secs(3600);
    let pool = start(&settings, &world);
    expect(&pool, |status| status.failures == 1);
    assert_eq!(pool.status().last_failure.as_deref(), Some("no room"));
    pool.stop();
    assert_eq!(world.tries().len(), 1);
}

#[test]
fn a_boot_that_panics_is_one_that_failed() {
    let mut settings = Settings::new(2);
    settings.at_once = 1;
    settings.first_backoff = Duration::from_millis(1);
    let world = World::failing([Failure::Panic("the first"), Failure::Panic("the second")]);
    let pool = start(&settings, &world);
    expect(&pool, |status| status.ready == 2);
    assert_eq!(pool.status().failures, 2);
    pool.stop();
    assert_eq!(world.live(), 0);

    settings.first_backoff = settings.most_backoff;
    let pool = start(&settings, &World::failing([Failure::Panic("the only")]));
    expect(&pool, |status| status.failures == 1);
    assert_eq!(pool.status().last_failure.as_deref(), Some("it panicked: the only"));
}

#[test]
fn it_can_be_resized_up_and_down_and_to_nothing() {
    let world = World::new();
    let pool = full(4, &world);
    for size in [130, 3, 70, 0, 1] {
        pool.resize(size).unwrap();
        expect(&pool, |status| status.ready == size && status.size == size);
    }
    assert!(matches!(pool.resize(MAX_SIZE + 1), Err(PoolError::Size(_))));
    pool.resize(0).unwrap();
    assert!(pool.acquire().is_none());
    pool.stop();
    pool.resize(5).unwrap();
    assert_eq!(pool.status().size, 0);
    assert_eq!(world.live(), 0);
}

#[test]
fn a_boot_that_ends_after_its_spare_is_not_wanted_any_more_leaves_nothing() {
    let world = World::new();
    let (pool, gate) = start_gated(2, &world);
    gate.begun.recv().unwrap();
    gate.begun.recv().unwrap();
    pool.resize(1).unwrap();
    drop(gate.open);
    expect(&pool, |status| status.boots == 2 && status.ready == 1 && status.removing == 0);
    assert_eq!(world.live(), 1);
    pool.stop();
    assert_eq!(world.live(), 0);
}

#[test]
fn a_stop_waits_for_boots_under_way_and_leaves_nothing() {
    let world = World::new();
    let (pool, gate) = start_gated(6, &world);
    (0..2).for_each(|_| gate.open.send(()).unwrap());
    expect(&pool, |status| status.boots == 2 && status.booting == 2);
    thread::scope(|scope| {
        let stop = scope.spawn(|| pool.stop());
        expect(&pool, |status| status.size == 0);
        assert!(!stop.is_finished());
        drop(gate.open);
    });
    assert_eq!(world.booted(), 4);
    assert_eq!(world.live(), 0);
    assert!(pool.acquire().is_none());
    pool.stop();
}

#[test]
fn a_lease_outlives_its_pool_and_belongs_to_who_has_it() {
    let world = World::new();
    let pool = full(3, &world);
    let (first, second) = (pool.acquire().unwrap(), pool.acquire().unwrap());
    drop(pool);
    assert_eq!(world.live(), 2);
    drop(first);
    let second = second.into_inner();
    assert_eq!(world.live(), 1);
    second.destroy();
    assert_eq!(world.live(), 0);
}

#[test]
fn a_stop_amid_acquirers_leaves_nothing() {
    let world = World::new();
    let pool = full(150, &world);
    let begin = Barrier::new(5);
    let leased = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                begin.wait();
                while let Some(lease) = pool.acquire() {
                    leased.fetch_add(1, SeqCst);
                    drop(lease);
                }
            });
        }
        begin.wait();
        pool.stop();
    });
    assert_eq!(pool.status().handed_out, leased.load(SeqCst) as u64);
    assert_eq!(pool.status().ready, 0);
    assert_eq!(world.live(), 0);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut Settings)| {
        let mut settings = Settings::new(1);
        change(&mut settings);
        let world = World::new();
        let pool = Pool::start(&settings, move || world.boot());
        pool.err().unwrap()
    };
    assert!(matches!(refused(|s| s.size = MAX_SIZE + 1), PoolError::Size(_)));
    assert!(matches!(refused(|s| s.at_once = 0), PoolError::AtOnce(0)));
    assert!(matches!(refused(|s| s.at_once = MAX_AT_ONCE + 1), PoolError::AtOnce(_)));
    assert!(matches!(refused(|s| s.max_age = Duration::ZERO), PoolError::MaxAge));
    assert!(matches!(refused(|s| s.first_backoff = Duration::ZERO), PoolError::Backoff { .. }));
    assert!(matches!(refused(|s| s.most_backoff = Duration::ZERO), PoolError::Backoff { .. }));
}
