//! One process and its records.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use crate::common::{dirs, name, new, scratch};
use agentkernel_store::{
    Id, NewRecord, Pool, ProcessRef, Record, Snapshot, State, Store, StoreError, Thing,
};

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

#[test]
fn looking_makes_no_files() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    assert!(Store::open_existing(&dirs).unwrap().is_none());
    assert!(!dirs.state().exists());
    drop(Store::open(&dirs).unwrap());
    assert!(Store::open_existing(&dirs).unwrap().is_some());
}

#[test]
fn nobody_else_can_read_it() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    store.insert(&new("web")).unwrap();
    let mut files = 0;
    for entry in dirs.state().read_dir().unwrap() {
        let entry = entry.unwrap();
        let expected = if entry.file_type().unwrap().is_dir() { 0o700 } else { 0o600 };
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 4, "the database, its log, the folders");
}

#[test]
fn of_several_records_all_are_stored_or_none() {
    let scratch = scratch();
    let store = Store::open(&dirs(&scratch)).unwrap();
    let own = NewRecord { id: Some(id("0123456789ab")), ..new("a") };
    let taken = store.insert_all(&[own.clone(), new("b"), new("a")]);
    assert!(matches!(taken, Err(StoreError::NameTaken { .. })), "{taken:?}");
    assert_eq!(store.list().unwrap(), []);

    let stored = store.insert_all(&[own, new("b")]).unwrap();
    assert_eq!(stored[0].id, id("0123456789ab"));
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_record_comes_back_as_it_was_stored() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let labels = [("team", "a=b"), ("", "\u{fffd}\n'\"")];
    let made = NewRecord {
        labels: labels.map(|(key, value)| (key.into(), value.into())).into(),
        ttl: Some(Duration::from_millis(1500)),
        idle: Some(Duration::MAX),
        origin: Some("base".into()),
        ..new("web")
    };
    let record = Store::open(&dirs).unwrap().insert(&made).unwrap();
    assert_eq!(record.state, State::Created);
    assert_eq!(record.labels, made.labels);

    let store = Store::open(&dirs).unwrap();
    let forever = Some(Duration::from_millis(i64::MAX as u64));
    assert_eq!(store.find("web").unwrap(), Record { idle: forever, ..record.clone() });

    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let changed = store.update(&record.id, |record| {
        record.id = id("000000000000");
        record.created = time;
        record.state = State::Paused;
        record.process = Some(ProcessRef { pid: 7, start_time: 1 << 40, boot_id: "this".into() });
        record.started = Some(time);
        record.stopped = Some(time);
        record.place = Some("{}".into());
        record.why = Some("it ended".into());
        record.applied = Some("[]".into());
        record.labels.clear();
    });
    let changed = changed.unwrap();
    assert_eq!((&changed.id, changed.created), (&record.id, record.created));
    assert_eq!((changed.state, changed.started), (State::Paused, Some(time)));
    assert_eq!(changed.process.as_ref().unwrap().start_time, 1 << 40);
    assert_eq!(store.list().unwrap(), [changed]);
}

#[test]
fn a_taken_name_says_who_has_it() {
    let scratch = scratch();
    let store = Store::open(&dirs(&scratch)).unwrap();
    let first = store.insert(&new("web")).unwrap();
    let second = store.insert(&new("db")).unwrap();
    for refused in [store.insert(&new("web")), store.rename(&second.id, &name("web"))] {
        let err = refused.unwrap_err();
        assert_eq!(err.to_string(), "there is already a sandbox named web");
        assert!(matches!(err, StoreError::NameTaken { id, .. } if id == first.id));
    }
    store.rename(&first.id, &name("web")).unwrap();
    store.rename(&first.id, &name("www")).unwrap();
    store.rename(&second.id, &name("web")).unwrap();
    assert_eq!(store.find("web").unwrap().id, second.id);
}

#[test]
fn things_are_found_by_name_id_and_start_of_id() {
    let scratch = scratch();
    let store = Store::open(&dirs(&scratch)).unwrap();
    for (id, named) in
        [("aaaa00000000", "one"), ("aaaa11111111", "two"), ("bbbb00000000", "aaaa00000000")]
    {
        store.insert_snapshot(&snapshot(id, named)).unwrap();
    }
    let found = |asked: &str| store.find_snapshot(asked).map(|found| found.id.to_string());
    assert_eq!(found("two").unwrap(), "aaaa11111111");
    assert_eq!(found("bbbb").unwrap(), "bbbb00000000");
    // An id means the same for ever, whatever others are named.
    assert_eq!(found("aaaa00000000").unwrap(), "aaaa00000000");
    let err = found("aaaa").unwrap_err();
    assert_eq!(
        err.to_string(),
        r#""aaaa" stands for more than one snapshot: aaaa00000000, aaaa11111111"#
    );
    for asked in ["", "bbb", "bbbb*", "BBBB", "????", "*", "bbbb000000000", "%", "one\0"] {
        let err = found(asked).unwrap_err();
        let StoreError::NotFound { thing: Thing::Snapshot, names, .. } = err else {
            panic!("{asked:?}: {err}");
        };
        assert_eq!(names, ["aaaa00000000", "one", "two"]);
    }
}

fn snapshot(with_id: &str, named: &str) -> Snapshot {
    Snapshot {
        id: id(with_id),
        name: name(named),
        of: "web".into(),
        backend: "native".into(),
        spec: "{}".into(),
        created: SystemTime::UNIX_EPOCH,
        bytes: 1 << 40,
    }
}

#[test]
fn snapshots_are_kept_by_unique_names() {
    let scratch = scratch();
    let store = Store::open(&dirs(&scratch)).unwrap();
    let first = snapshot("aaaa00000000", "base");
    store.insert_snapshot(&first).unwrap();
    let err = store.insert_snapshot(&snapshot("bbbb00000000", "base")).unwrap_err();
    assert_eq!(err.to_string(), "there is already a snapshot named base");
    assert_eq!(store.list_snapshots().unwrap(), std::slice::from_ref(&first));
    store.remove_snapshot(&first.id).unwrap();
    assert!(matches!(store.remove_snapshot(&first.id), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_pool_replaces_the_one_of_its_name() {
    let scratch = scratch();
    let store = Store::open(&dirs(&scratch)).unwrap();
    let pool = |named: &str, size| Pool {
        name: name(named),
        size,
        backend: "native".into(),
        spec: "{}".into(),
        max_age: Some(Duration::from_secs(60)),
    };
    for pool in [pool("small", 2), pool("big", 100), pool("small", 3)] {
        store.set_pool(&pool).unwrap();
    }
    assert_eq!(store.list_pools().unwrap(), [pool("big", 100), pool("small", 3)]);
    store.remove_pool("big").unwrap();
    let err = store.remove_pool("big").unwrap_err();
    assert!(matches!(err, StoreError::NotFound { names, .. } if names == ["small"]));
}

#[test]
fn what_was_removed_is_gone() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    let record = store.insert(&new("web")).unwrap();
    let lock = store.lock(&record.id).unwrap();
    assert!(dirs.sandbox(&record.id).exists());
    store.remove(&record.id).unwrap();
    std::fs::remove_dir(dirs.sandbox(&record.id)).unwrap();
    drop(lock);
    let errors = [
        store.remove(&record.id).unwrap_err(),
        store.update(&record.id, |_| {}).unwrap_err(),
        store.lock(&record.id).unwrap_err(),
        store.find("web").unwrap_err(),
    ];
    assert!(errors.iter().all(|err| matches!(err, StoreError::NotFound { .. })), "{errors:?}");
    assert!(!dirs.sandbox(&record.id).exists(), "to ask for its lock makes no folder");
}
