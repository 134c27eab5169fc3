//! Files that are no store, or that can't be changed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use agentkernel_store::{Dirs, NewRecord, Store, StoreError};

use crate::common::{READ_ONLY, SMALL, again, again_on, dirs, new, scratch, told};

/// Opens a store whose file is `content`, in both ways; the file must stay as it is.
fn opened(content: &[u8]) -> StoreError {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.prepare().unwrap();
    fs::write(dirs.store(), content).unwrap();
    let first = Store::open_existing(&dirs).unwrap_err();
    let second = Store::open(&dirs).unwrap_err();
    assert_eq!(first.to_string(), second.to_string());
    assert_eq!(fs::read(dirs.store()).unwrap(), content, "it must not be touched");
    let path = dirs.store();
    assert!(second.to_string().contains(path.to_str().unwrap()), "{second}");
    assert!(!second.hint().is_empty());
    second
}

/// The bytes of a store that `statements` were carried out in.
fn content_after(statements: &str) -> Vec<u8> {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    drop(Store::open(&dirs).unwrap().insert(&new("web")).unwrap());
    alter(&dirs, statements);
    fs::read(dirs.store()).unwrap()
}

fn alter(dirs: &Dirs, statements: &str) {
    rusqlite::Connection::open(dirs.store()).unwrap().execute_batch(statements).unwrap();
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let err = opened(&content_after("PRAGMA user_version = 99"));
    assert!(
        err.to_string().ends_with("was made by a newer agentkernel (version 99; this one knows 1)"),
        "{err}"
    );
}

#[test]
fn what_is_no_database_is_left_alone() {
    for content in [&b"hello\n"[..], &[0; 4096], &[0xff; 100_000], b"SQLite format 3\0"] {
        let err = opened(content);
        assert!(matches!(err, StoreError::NotAStore { .. }), "{err}");
    }
    let mut torn = content_after("");
    torn.truncate(100);
    assert!(matches!(opened(&torn), StoreError::NotAStore { .. } | StoreError::Damaged { .. }));
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let scratch = scratch();
    let path = scratch.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE sandboxes (id TEXT)").unwrap();
    let content = fs::read(&path).unwrap();
    let err = opened(&content);
    assert!(matches!(err, StoreError::NotAStore { .. }), "{err}");
    assert!(err.hint().contains("move it away"));
}

#[test]
fn a_damaged_database_is_an_error_and_left_alone() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    let store = Store::open(&dirs).unwrap();
    for number in 0..100 {
        store.insert(&new(format!("web-{number}"))).unwrap();
    }
    drop(store);
    let file = fs::OpenOptions::new().write(true).open(dirs.store()).unwrap();
    let size = file.metadata().unwrap().len();
    // All but the first page, which holds the shape.
    file.write_all_at(&vec![0xa5; usize::try_from(size - 4096).unwrap()], 4096).unwrap();
    let damaged = fs::read(dirs.store()).unwrap();
    let store = Store::open(&dirs).unwrap();
    for err in [store.list().unwrap_err(), store.insert(&new("more")).unwrap_err()] {
        assert!(matches!(err, StoreError::Damaged { .. }), "{err}");
    }
    drop(store);
    assert_eq!(fs::read(dirs.store()).unwrap(), damaged);
}

#[test]
fn a_value_that_makes_no_sense_is_an_error() {
    for (column, value, why) in [
        ("state", "'flying'", r#""flying" is no state of a sandbox"#),
        ("name", "'a/b'", r#""a/b" is not a valid name"#),
        ("id", "'x'", r#""x" is not a valid id"#),
        ("labels", "'{'", "EOF while parsing"),
        ("labels", "'[1]'", "invalid type"),
        ("ttl", "-1", "-1 is no span of time"),
        ("pid", "1", "Invalid column type Null"),
        ("pid", "5000000000", "out of range"),
    ] {
        let scratch = scratch();
        let dirs = dirs(&scratch);
        let store = Store::open(&dirs).unwrap();
        store.insert(&new("web")).unwrap();
        alter(&dirs, &format!("UPDATE sandboxes SET {column} = {value}"));
        let err = store.list().unwrap_err();
        assert!(matches!(err, StoreError::Damaged { .. }), "{column}: {err}");
        assert!(err.to_string().contains(why), "{column}: {err}");
    }
}

#[test]
fn a_store_on_a_read_only_disk_can_be_read() {
    if let Some((dirs, _)) = told() {
        for store in [Store::open(&dirs).unwrap(), Store::open_existing(&dirs).unwrap().unwrap()] {
            let listed = store.list().unwrap();
            assert_eq!(listed[0].name.as_str(), "web");
            let errors = [
                store.insert(&new("db")).unwrap_err(),
                store.remove(&listed[0].id).unwrap_err(),
                store.update(&listed[0].id, |_| {}).unwrap_err(),
            ];
            assert!(
                errors.iter().all(|err| matches!(err, StoreError::ReadOnly { .. })),
                "{errors:?}"
            );
        }
        return;
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    drop(Store::open(&dirs).unwrap().insert(&new("web")).unwrap());
    let test = "bad_files::a_store_on_a_read_only_disk_can_be_read";
    let Some(mut reader) = again_on(READ_ONLY, dirs.state(), test, &scratch) else {
        return;
    };
    assert!(reader.status().unwrap().success());
}

#[test]
fn no_store_is_made_on_a_read_only_disk() {
    if let Some((dirs, _)) = told() {
        let err = Store::open(&dirs).unwrap_err();
        assert!(matches!(err, StoreError::ReadOnly { .. }), "{err}");
        assert!(Store::open_existing(&dirs).unwrap().is_none());
        return;
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.prepare().unwrap();
    let test = "bad_files::no_store_is_made_on_a_read_only_disk";
    let Some(mut reader) = again_on(READ_ONLY, dirs.state(), test, &scratch) else {
        return;
    };
    assert!(reader.status().unwrap().success());
}

/// The process died with records in the log only, and then the disk became read-only.
#[test]
fn old_records_never_pass_for_true_ones() {
    let test = "bad_files::old_records_never_pass_for_true_ones";
    match told() {
        Some((dirs, 1)) => {
            Store::open(&dirs).unwrap().insert(&new("web")).unwrap();
            let store = Store::open(&dirs).unwrap();
            store.insert(&new("db")).unwrap();
            // It ends without closing the store.
            std::process::exit(0);
        }
        Some((dirs, _)) => match Store::open_existing(&dirs) {
            Ok(store) => {
                assert_eq!(store.unwrap().list().unwrap().len(), 2);
                return;
            }
            Err(err) => return assert!(matches!(err, StoreError::Unfinished { .. }), "{err}"),
        },
        None => {}
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    assert!(again(test, &scratch, 1).stdout(Stdio::null()).status().unwrap().success());
    let log = dirs.store().with_extension("db-wal");
    assert!(log.metadata().unwrap().len() > 0, "else nothing is tested");
    for left in ["db-shm", ""] {
        let Some(mut reader) = again_on(READ_ONLY, dirs.state(), test, &scratch) else {
            return;
        };
        assert!(reader.status().unwrap().success(), "without {left:?}");
        // And as after a reboot of a machine that keeps no such files.
        let _ = fs::remove_file(dirs.store().with_extension(left));
    }
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let test = "bad_files::a_full_disk_is_an_error_and_loses_nothing";
    if let Some((dirs, _)) = told() {
        let store = Store::open(&dirs).unwrap();
        let big = |number| NewRecord { spec: "x".repeat(10_000), ..new(format!("web-{number}")) };
        let (count, err) =
            (0..).find_map(|number| Some((number, store.insert(&big(number)).err()?))).unwrap();
        assert!(matches!(err, StoreError::Full { .. }), "{err}");
        assert!(count > 0);
        assert_eq!(store.list().unwrap().len(), count);
        drop(store);
        assert_eq!(Store::open(&dirs).unwrap().list().unwrap().len(), count);
        return;
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.prepare().unwrap();
    if let Some(mut child) = again_on(SMALL, dirs.state(), test, &scratch) {
        assert!(child.status().unwrap().success());
    }
}
