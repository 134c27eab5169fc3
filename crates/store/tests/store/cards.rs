//! Cards: records that are read without the database.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use agentkernel_store::{Dirs, NewRecord, ProcessRef, Record, State, Store};

use crate::common::{READ_ONLY, SMALL, again, again_on, dirs, name, new, scratch, told};

/// Says that a sandbox runs, as whoever starts it does.
fn run(record: &mut Record) {
    record.state = State::Running;
    record.process = Some(ProcessRef { pid: 7, start_time: 8, boot_id: "boot".into() });
    record.place = Some(r#"{"groups":["a b"]}"#.into());
    record.started = Some(SystemTime::now());
}

/// A sandbox that is said to run, and has a card.
fn with_card(store: &Store, named: &str) -> Record {
    let record = store.insert(&new(named)).unwrap();
    let record = store.update(&record.id, run).unwrap();
    store.leave_card(&record.id);
    assert_eq!(store.card(named).as_ref(), Some(&record));
    record
}

fn card_files(dirs: &Dirs) -> Vec<PathBuf> {
    let entries = dirs.state().join("cards").read_dir();
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_card_says_what_the_database_says() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    let plain = store.insert(&new("plain")).unwrap();
    let full = store
        .insert(&NewRecord {
            labels: [("a".into(), "b\nc".into())].into(),
            ttl: Some(Duration::from_millis(5)),
            idle: Some(Duration::from_secs(7)),
            applied: Some("[]".into()),
            origin: Some("snap".into()),
            ..new("full.1")
        })
        .unwrap();
    for record in [plain, full] {
        let record = store.update(&record.id, |record| {
            run(record);
            record.stopped = Some(record.created);
            record.why = Some("so".into());
        });
        let record = record.unwrap();
        store.leave_card(&record.id);
        // Nobody who can read the database is asked.
        let reader = Store::open_later(&dirs).unwrap().unwrap();
        assert_eq!(reader.card(record.name.as_str()), Some(record.clone()));
        assert_eq!(reader.find(record.name.as_str()).unwrap(), record);
    }
    for file in card_files(&dirs) {
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{file:?}");
    }
    assert_eq!(dirs.state().join("cards").metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_card_goes_with_every_change() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    let record = with_card(&store, "web");
    let other = with_card(&store, "db");

    store.rename(&record.id, &name("www")).unwrap();
    assert_eq!((store.card("web"), store.card("www")), (None, None));
    store.leave_card(&record.id);
    assert_eq!(store.card("www").unwrap().id, record.id);

    store.update(&record.id, |record| record.state = State::Paused).unwrap();
    assert_eq!(store.card("www"), None);
    // What does not run has none.
    store.leave_card(&record.id);
    assert_eq!(store.card("www"), None);

    store.update(&record.id, run).unwrap();
    store.leave_card(&record.id);
    store.remove(&record.id).unwrap();
    assert_eq!(store.card("www"), None);
    store.leave_card(&record.id);
    assert_eq!(card_files(&dirs), [dirs.state().join("cards/db")], "of {other:?}");
    store.remove(&other.id).unwrap();
    assert!(card_files(&dirs).is_empty());
}

#[test]
fn what_lines_can_not_hold_has_no_card() {
    let scratch = scratch();
    let store = Store::open(&dirs(&scratch)).unwrap();
    let record = with_card(&store, "web");
    let changes: [fn(&mut Record); 4] = [
        |record| record.place = Some("{\n}".into()),
        |record| record.place = Some(String::new()),
        |record| record.spec = "\n".into(),
        |record| record.process = None,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        store.update(&record.id, change).unwrap();
        store.leave_card(&record.id);
        assert_eq!(store.card("web"), None, "{at}");
        store.update(&record.id, |now| *now = record.clone()).unwrap();
        store.leave_card(&record.id);
        assert_eq!(store.card("web").as_ref(), Some(&record));
    }
}

#[test]
fn only_a_name_has_a_card() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    let record = with_card(&store, "web");
    for asked in [record.id.as_str(), &record.id.as_str()[..4], "WEB", "", ".", "../cards/web"] {
        assert_eq!(store.card(asked), None, "{asked:?}");
    }
    // An id goes before a name, and another sandbox may have it.
    let like_an_id = store.insert(&new("0123456789ab")).unwrap();
    store.update(&like_an_id.id, run).unwrap();
    store.leave_card(&like_an_id.id);
    assert_eq!(store.card("0123456789ab"), None);
    // One that somebody calls otherwise is not believed.
    fs::copy(dirs.state().join("cards/web"), dirs.state().join("cards/www")).unwrap();
    assert_eq!(store.card("www"), None);
    for cut in ["", "1", "1\n", "\n\n\n"] {
        fs::write(dirs.state().join("cards/web"), cut).unwrap();
        assert_eq!(store.card("web"), None, "{cut:?}");
    }
}

#[test]
fn a_database_that_was_touched_is_looked_at() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    drop(with_card(&store, "web"));
    drop(store);
    // Whoever closes it last carries the log over, so this is the first that stays.
    let again = || Store::open_existing(&dirs).unwrap().unwrap();
    let store = again();
    store.leave_card(&store.find("web").unwrap().id);
    assert!(again().card("web").is_some());
    drop(store);

    let good = fs::read(dirs.store()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(dirs.store()).unwrap();
    file.write_all_at(b"damaged!", 4096).unwrap();
    assert_eq!(Store::open_later(&dirs).unwrap().unwrap().card("web"), None);
    fs::write(dirs.store(), &good).unwrap();
    let store = again();
    store.leave_card(&store.find("web").unwrap().id);
    assert!(store.card("web").is_some());
    drop(store);

    for end in ["db", "db-wal", "db-shm"] {
        let _ = fs::remove_file(dirs.store().with_extension(end));
    }
    assert!(Store::open_later(&dirs).unwrap().is_none());
    let store = Store::open(&dirs).unwrap();
    assert_eq!(store.card("web"), None);
    assert!(card_files(&dirs).is_empty(), "a new database has none");
}

/// Says at its end that all is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One changes a record and says so, two leave cards, and two read them.
#[test]
fn no_card_is_ever_behind_the_database() {
    const ROUNDS: usize = 100;
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let id = with_card(&Store::open(&dirs).unwrap(), "web").id;
    let (told, seen, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let store = Store::open(&dirs).unwrap();
                let mut last = usize::MAX;
                while !over.load(Ordering::SeqCst) {
                    let now = told.load(Ordering::SeqCst);
                    // Else the one who writes hardly ever gets his turn.
                    if now != last || is_awaited(now) && seen.load(Ordering::SeqCst) < now {
                        store.leave_card(&id);
                    }
                    last = now;
                    thread::yield_now();
                }
            });
            scope.spawn(|| {
                let _over = Over(&over);
                let store = Store::open_later(&dirs).unwrap().unwrap();
                while !over.load(Ordering::SeqCst) {
                    let before = told.load(Ordering::SeqCst);
                    let Some(card) = store.card("web") else { continue };
                    let said = card.origin.map_or(0, |number| number.parse().unwrap());
                    assert!(said >= before, "{said} after {before}");
                    seen.fetch_max(said, Ordering::SeqCst);
                }
            });
        }
        // However this ends, so do the others.
        let _over = Over(&over);
        let store = Store::open(&dirs).unwrap();
        for round in 1..=ROUNDS {
            store.update(&id, |record| record.origin = Some(round.to_string())).unwrap();
            told.store(round, Ordering::SeqCst);
            while is_awaited(round) && seen.load(Ordering::SeqCst) < round {
                assert!(!over.load(Ordering::SeqCst), "a reader has failed");
                thread::yield_now();
            }
        }
    });
}

/// Whether a card of this round must be seen before the next one; of the others, which come right after
/// each other, it may be.
fn is_awaited(round: usize) -> bool {
    round % 3 == 1
}

#[test]
fn who_is_killed_leaves_no_card_or_a_true_one() {
    if let Some((dirs, _)) = told() {
        let store = Store::open(&dirs).unwrap();
        let id = store.find("web").unwrap().id;
        println!("ready");
        for round in 0.. {
            store.update(&id, |record| record.origin = Some(format!("{round}"))).unwrap();
            store.leave_card(&id);
            println!("left");
        }
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    with_card(&store, "web");
    for round in 0..20 {
        let mut child = again("cards::who_is_killed_leaves_no_card_or_a_true_one", &scratch, round);
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        // Amid what comes after, at another moment each time.
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let left = said.map_while(Result::ok).filter(|line| line.ends_with("left"));
        assert_eq!(left.take(1 + round).count(), 1 + round);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = store.find("web").unwrap();
        assert!([None, Some(found)].contains(&store.card("web")), "round {round}");
    }
}

#[test]
fn on_a_read_only_disk_none_is_left() {
    if let Some((dirs, _)) = told() {
        let store = Store::open_existing(&dirs).unwrap().unwrap();
        let record = store.find("web").unwrap();
        store.leave_card(&record.id);
        assert_eq!(store.card("web"), None);
        assert_eq!(store.list().unwrap(), [record]);
        return;
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    let record = store.insert(&new("web")).unwrap();
    store.update(&record.id, run).unwrap();
    drop(store);
    let test = "cards::on_a_read_only_disk_none_is_left";
    let Some(mut child) = again_on(READ_ONLY, dirs.state(), test, &scratch) else { return };
    assert!(child.status().unwrap().success());
}

#[test]
fn on_a_full_disk_a_card_is_left_whole_or_not_at_all() {
    let test = "cards::on_a_full_disk_a_card_is_left_whole_or_not_at_all";
    if let Some((dirs, _)) = told() {
        let store = Store::open(&dirs).unwrap();
        let record = with_card(&store, "web");
        fs::remove_file(dirs.state().join("cards/web")).unwrap();
        // All the room that there is, and less by a little each time.
        for room in 0..8 {
            let junk = fs::File::create(dirs.state().join("junk")).unwrap();
            let mut size = 0;
            while junk.write_all_at(&[1; 512], size).is_ok() {
                size += 512;
            }
            junk.set_len(size.saturating_sub(room * 4096)).unwrap();
            store.leave_card(&record.id);
            assert!([None, Some(record.clone())].contains(&store.card("web")), "{room}");
        }
        assert_eq!(store.find("web").unwrap(), record);
        return;
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.prepare().unwrap();
    let Some(mut child) = again_on(SMALL, dirs.state(), test, &scratch) else { return };
    assert!(child.status().unwrap().success());
}
