//! Many processes and threads and one store.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Barrier, mpsc};
use std::thread;

use agentkernel_store::{Dirs, State, Store, StoreError};

use crate::common::{again, dirs, name, new, scratch, told};

#[test]
fn of_twenty_that_want_one_name_one_gets_it() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let together = Barrier::new(20);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    // All of them make the store, too.
                    Store::open(&dirs).unwrap().insert(&new("web"))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 19));
    let winner = won.into_iter().next().unwrap().unwrap();
    for err in lost {
        let err = err.unwrap_err();
        assert!(matches!(&err, StoreError::NameTaken { id, .. } if *id == winner.id), "{err}");
    }
}

#[test]
fn eight_processes_lose_nothing() {
    const EACH: usize = 200;
    if let Some((dirs, number)) = told() {
        return work(&dirs, number, EACH);
    }
    let scratch = scratch();
    let test = "processes::eight_processes_lose_nothing";
    let shared = Store::open(&dirs(&scratch)).unwrap().insert(&new("shared")).unwrap();
    let children: Vec<_> = (0..8)
        .map(|number| again(test, &scratch, number).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(&dirs(&scratch)).unwrap();
    let count = store.find("shared").unwrap().why.unwrap();
    assert_eq!(count, (8 * EACH).to_string(), "every process added one, each time");
    let left: Vec<_> = store.list().unwrap().into_iter().filter(|r| r.id != shared.id).collect();
    assert_eq!(left.len(), 8 * EACH / 2);
    for record in left {
        assert_eq!(record.state, State::Running);
        assert_eq!(record.why.as_deref(), Some(record.name.as_str()));
    }
}

/// Inserts, updates and, every other time, removes `rounds` records, and counts in one that all
/// share.
fn work(dirs: &Dirs, number: usize, rounds: usize) {
    let store = Store::open(dirs).unwrap();
    let shared = store.find("shared").unwrap().id;
    for round in 0..rounds {
        let named = format!("p{number}-{round}");
        let record = store.insert(&new(&named)).unwrap();
        let record = store.update(&record.id, |record| {
            record.state = State::Running;
            record.why = Some(named);
        });
        if round % 2 == 0 {
            store.remove(&record.unwrap().id).unwrap();
        }
        let counted = store.update(&shared, |record| {
            let count = record.why.as_deref().map_or(0, |why| why.parse().unwrap());
            record.why = Some((count + 1usize).to_string());
        });
        counted.unwrap();
    }
}

#[test]
fn what_a_killed_process_had_stored_is_there() {
    if let Some((dirs, number)) = told() {
        let store = Store::open(&dirs).unwrap();
        for round in 0.. {
            store.insert(&new(format!("k{number}-{round}"))).unwrap();
            println!("stored {round}");
        }
    }
    let scratch = scratch();
    let test = "processes::what_a_killed_process_had_stored_is_there";
    for number in 0..5 {
        let mut child = again(test, &scratch, number).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It is killed at some moment of the next insert.
        let stored: Vec<String> = lines
            .by_ref()
            .map(Result::unwrap)
            .filter_map(|line| Some(line.split_once("stored ")?.1.to_owned()))
            .take(20 + number * 7)
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&dirs(&scratch)).unwrap();
        for round in stored {
            store.find(&format!("k{number}-{round}")).unwrap();
        }
        store.insert(&new(format!("after-{number}"))).unwrap();
    }
}

#[test]
fn a_lock_is_held_by_one_and_let_go_by_the_dead() {
    const TEST: &str = "processes::a_lock_is_held_by_one_and_let_go_by_the_dead";
    if let Some((dirs, _)) = told() {
        let store = Store::open(&dirs).unwrap();
        let _lock = store.lock(&store.find("web").unwrap().id).unwrap();
        println!("locked");
        // Until it is killed, or the one that should do so is gone.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let scratch = scratch();
    let store = Store::open(&dirs(&scratch)).unwrap();
    let id = store.insert(&new("web")).unwrap().id;
    let other = store.insert(&new("db")).unwrap().id;

    let mut child = again(TEST, &scratch, 0);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("locked")));
    assert!(store.try_lock(&id).unwrap().is_none());
    let _other = store.lock(&other).unwrap();
    store.rename(&id, &name("www")).unwrap();
    child.kill().unwrap();
    let lock = store.lock(&id).unwrap();
    child.wait().unwrap();
    assert!(store.try_lock(&id).unwrap().is_none());
    drop(lock);
    assert!(store.try_lock(&id).unwrap().is_some());
}

#[test]
fn who_waited_for_a_sandbox_that_was_removed_is_told() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    for round in 0..100 {
        let id = store.insert(&new(format!("web-{round}"))).unwrap().id;
        let lock = store.lock(&id).unwrap();
        let (waits, waiting) = mpsc::channel();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let store = Store::open(&dirs).unwrap();
                waits.send(()).unwrap();
                store.lock(&id).map(drop)
            });
            waiting.recv().unwrap();
            store.remove(&id).unwrap();
            std::fs::remove_dir_all(dirs.sandbox(&id)).unwrap();
            drop(lock);
            let err = waiter.join().unwrap().unwrap_err();
            assert!(matches!(err, StoreError::NotFound { .. }), "{err}");
        });
        assert!(!dirs.sandbox(&id).exists());
        let locks = dirs.state().join("locks").read_dir().unwrap();
        assert_eq!(locks.count(), 0, "nothing is left");
    }
}
