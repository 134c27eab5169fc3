//! The audit log: what is written comes back, and what is done to it shows.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use agentkernel_store::audit::{
    Audit, AuditError, Entry, Filter, Kind, Logged, Subject, Verdict, Who, digest, follow, read,
    verify, words,
};
use agentkernel_testkit::Scratch;
use serde_json::{Value, json};

use crate::common::{READ_ONLY, SMALL, again, again_on, dirs, name, scratch, told};

const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn who() -> Who {
    Who::this_process("a test")
}

fn subject(named: &str) -> Subject {
    Subject { id: "0123456789ab".parse().unwrap(), name: name(named) }
}

/// A log in a fresh folder.
fn log(scratch: &Scratch) -> Audit {
    Audit::at(scratch.path().join("audit.jsonl"))
}

/// Appends an entry of which one can tell the number.
fn note(audit: &Audit, number: u64) {
    let who = who();
    let detail = json!({ "number": number });
    audit.append(&Entry { detail, ..Entry::new(Kind::Command, &who) }).unwrap();
}

fn entries(path: &Path, filter: Filter) -> Vec<Logged> {
    read(path, filter).unwrap().map(Result::unwrap).collect()
}

fn numbers(path: &Path) -> Vec<u64> {
    let entries = entries(path, Filter::default());
    entries.iter().filter_map(|entry| entry.detail["number"].as_u64()).collect()
}

fn verified(path: &Path) -> (u64, u64, Option<u64>) {
    match verify(path).unwrap() {
        Verdict::Verified { entries, torn, unfinished, .. } => (entries, torn, unfinished),
        broken => panic!("{broken:?}"),
    }
}

#[test]
fn an_entry_comes_back_as_it_was_written() {
    let scratch = scratch();
    let audit = log(&scratch);
    let who = who();
    let sandbox = subject("web");
    let spec = digest("{}");
    let argv = ["a\nb", "\"\\\u{2028}\u{7f}", "caf\u{e9}"].map(OsStr::new);
    let broken = [OsStr::from_bytes(b"\xff\n\0\"")];
    let command = words(argv.into_iter().chain(broken));
    let before = SystemTime::now();
    let entry = Entry {
        kind: Kind::Ended,
        who: &who,
        sandbox: Some(&sandbox),
        backend: Some("native"),
        spec: Some(&spec),
        ended: Some(json!({ "kind": "exited", "code": 3 })),
        detail: json!({ "command": command }),
    };
    audit.append(&entry).unwrap();
    audit.append(&Entry::new(Kind::Stop, &who)).unwrap();

    let text = fs::read_to_string(audit.path()).unwrap();
    assert_eq!(text.lines().count(), 2, "one line for each, whatever is in it");
    let [first, second] = entries(audit.path(), Filter::default()).try_into().unwrap();
    assert_eq!((first.seq, first.kind, first.prev.as_str()), (1, Kind::Ended, NO_HASH));
    assert_eq!((&first.who, first.sandbox), (&who, Some(sandbox)));
    assert_eq!((first.backend.as_deref(), first.spec), (Some("native"), Some(spec)));
    assert_eq!(first.ended, Some(json!({ "kind": "exited", "code": 3 })));
    assert_eq!(
        first.detail["command"],
        json!(["a\nb", "\"\\\u{2028}\u{7f}", "caf\u{e9}", "\u{fffd}\n\0\""])
    );
    assert_eq!((second.seq, second.prev), (2, first.hash));
    assert_eq!((second.detail, second.ended), (Value::Null, None));
    assert_eq!(format!("{}\n{}\n", first.line, second.line), text);
    assert!(first.time.len() == "2026-11-25T03:11:12.345Z".len() && first.time.ends_with('Z'));
    let since = Filter { since: Some(before), ..Filter::default() };
    assert_eq!(entries(audit.path(), since).len(), 2);
    let last = second.hash;
    let verified = Verdict::Verified { entries: 2, torn: 0, unfinished: None, last };
    assert_eq!(verify(audit.path()).unwrap(), verified);
}

#[test]
fn a_filter_takes_what_fits_all_of_it() {
    let scratch = scratch();
    let audit = log(&scratch);
    let who = who();
    let (web, db) = (subject("web"), subject("db"));
    for (kind, sandbox) in [
        (Kind::Create, Some(&web)),
        (Kind::Create, Some(&db)),
        (Kind::Stop, Some(&web)),
        (Kind::Daemon, None),
    ] {
        audit.append(&Entry { sandbox, ..Entry::new(kind, &who) }).unwrap();
    }
    let count = |filter| entries(audit.path(), filter).len();
    let kinds = |kinds: &[Kind]| Filter { kinds: kinds.into(), ..Filter::default() };
    let sandbox = |word: &str| Filter { sandbox: Some(word.into()), ..Filter::default() };
    assert_eq!(count(kinds(&[Kind::Create])), 2);
    assert_eq!(count(kinds(&[Kind::Create, Kind::Daemon])), 3);
    assert_eq!(count(sandbox("web")), 2);
    assert_eq!(count(sandbox("0123456789ab")), 3);
    assert_eq!(count(Filter { kinds: vec![Kind::Stop], ..sandbox("db") }), 0);
    let later = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(count(Filter { since: Some(later), ..Filter::default() }), 0);
}

#[test]
fn a_log_that_is_not_there_has_no_entries() {
    let scratch = scratch();
    let path = scratch.path().join("audit.jsonl");
    assert_eq!(verified(&path), (0, 0, None));
    assert!(entries(&path, Filter::default()).is_empty());
    assert!(!path.exists());
}

#[test]
fn eight_writers_make_one_chain() {
    const EACH: u64 = 200;
    if let Some((dirs, _)) = told() {
        let audit = Audit::at(dirs.audit());
        return (0..EACH).for_each(|number| note(&audit, number));
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.prepare().unwrap();
    let test = "audit::eight_writers_make_one_chain";
    let children: Vec<_> = (0..8)
        .map(|number| again(test, &scratch, number).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(verified(&dirs.audit()), (8 * EACH, 0, None));
    let mut numbers = numbers(&dirs.audit());
    numbers.sort_unstable();
    let all: Vec<_> = (0..EACH).flat_map(|number| [number; 8]).collect();
    assert_eq!(numbers, all);
}

/// What `verify` says of a log of ten entries to whose lines `tamper` did something.
fn after(tamper: impl FnOnce(&mut Vec<String>)) -> (u64, String) {
    let scratch = scratch();
    let audit = log(&scratch);
    (1..=10).for_each(|number| note(&audit, number));
    let text = fs::read_to_string(audit.path()).unwrap();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    tamper(&mut lines);
    fs::write(audit.path(), lines.concat()).unwrap();
    let verdict = verify(audit.path()).unwrap();
    // What comes later hides nothing.
    note(&audit, 11);
    let Verdict::Broken { line, why } = verify(audit.path()).unwrap() else {
        panic!("{verdict:?}, and after another entry it verifies");
    };
    assert_eq!(verdict, Verdict::Broken { line, why: why.clone() });
    (line, why)
}

#[test]
fn each_kind_of_tampering_shows() {
    const CHANGED: &str = "it was changed after it was written";
    const MISPLACED: &str =
        "it does not follow the entry before it: one was removed, added or moved";
    const NONE: &str = "it is no entry";
    let broken = |line, why: &str| (line, why.to_owned());

    let change = |lines: &mut Vec<String>, at: usize| {
        lines[at] = lines[at].replace("\"number\":", "\"numbre\":");
    };
    assert_eq!(after(|lines| change(lines, 0)), broken(1, CHANGED));
    assert_eq!(after(|lines| change(lines, 4)), broken(5, CHANGED));
    assert_eq!(after(|lines| change(lines, 9)), broken(10, CHANGED));
    assert_eq!(after(|lines| drop(lines.remove(0))), broken(1, MISPLACED));
    assert_eq!(after(|lines| drop(lines.remove(4))), broken(5, MISPLACED));
    assert_eq!(after(|lines| lines.swap(3, 6)), broken(4, MISPLACED));
    assert_eq!(after(|lines| lines.insert(5, lines[4].clone())), broken(6, MISPLACED));
    assert_eq!(after(|lines| lines.insert(3, "\n".into())), broken(4, NONE));
    assert_eq!(after(|lines| lines.push("hello\n".into())), broken(11, NONE));
    assert_eq!(after(|lines| lines[4].truncate(100)), broken(5, CHANGED));
    assert_eq!(after(|lines| lines[4].truncate(1)), broken(5, NONE));
    assert_eq!(after(|lines| lines[4].replace_range(100.., "\n")), broken(5, NONE));
    assert_eq!(after(|lines| lines[0].insert(0, ' ')), broken(1, NONE));
    let again_hashed = |lines: &mut Vec<String>| {
        change(lines, 4);
        let body = lines[4].split(",\"hash\"").next().unwrap().to_owned();
        lines[4] = format!("{body},\"hash\":\"{}\"}}\n", digest(format!("{body}}}")));
    };
    assert_eq!(after(again_hashed), broken(6, MISPLACED));
}

/// A log of three entries that ends in a part of a fourth one.
fn torn(scratch: &Scratch, keep: usize) -> Audit {
    let audit = log(scratch);
    (1..=4).for_each(|number| note(&audit, number));
    let text = fs::read_to_string(audit.path()).unwrap();
    let fourth = text.lines().last().unwrap().len() + 1;
    fs::write(audit.path(), &text[..text.len() - fourth + keep.min(fourth - 1)]).unwrap();
    audit
}

#[test]
fn a_torn_line_is_told_from_tampering() {
    for keep in [1, 9, 100, 200] {
        let scratch = scratch();
        let audit = torn(&scratch, keep);
        assert_eq!(verified(audit.path()), (3, 0, Some(4)), "{keep}");
        let last = read(audit.path(), Filter::default()).unwrap().last().unwrap();
        assert!(matches!(last, Err(AuditError::Unreadable { line: 4, .. })), "{keep}");

        note(&audit, 5);
        assert_eq!(verified(audit.path()), (5, 1, None), "{keep}");
        assert_eq!(numbers(audit.path()), [1, 2, 3, 5], "{keep}");
        let kinds: Vec<_> =
            entries(audit.path(), Filter::default()).iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds[3], Kind::Torn);

        // What was torn is bound to the chain, too.
        let text = fs::read_to_string(audit.path()).unwrap();
        let at = text.match_indices('\n').nth(2).unwrap().0 + 1;
        let tampered = [&text[..at], "#", &text[at + 1..]].concat();
        fs::write(audit.path(), tampered).unwrap();
        assert!(matches!(verify(audit.path()).unwrap(), Verdict::Broken { line: 4, .. }), "{keep}");
    }
}

#[test]
fn a_line_that_lacks_only_its_end_is_an_entry() {
    let scratch = scratch();
    let audit = torn(&scratch, usize::MAX);
    assert_eq!(verified(audit.path()), (4, 0, Some(4)));
    assert_eq!(numbers(audit.path()), [1, 2, 3, 4]);
    note(&audit, 5);
    assert_eq!(verified(audit.path()), (5, 0, None));
    assert_eq!(numbers(audit.path()), [1, 2, 3, 4, 5]);
}

#[test]
fn a_log_may_be_torn_again_and_again() {
    let scratch = scratch();
    let audit = torn(&scratch, 100);
    for cut in [1, 5, 400, 600] {
        note(&audit, 5);
        let file = OpenOptions::new().write(true).open(audit.path()).unwrap();
        file.set_len(file.metadata().unwrap().len() - cut).unwrap();
        assert!(verified(audit.path()).2.is_some());
    }
    note(&audit, 6);
    assert_eq!(verified(audit.path()).2, None);
    assert_eq!(numbers(audit.path())[..3], [1, 2, 3]);
}

#[test]
fn a_log_that_begins_torn_goes_on() {
    let scratch = scratch();
    let audit = log(&scratch);
    fs::write(audit.path(), "{\"seq\":1,\"ti").unwrap();
    assert_eq!(verified(audit.path()), (0, 0, Some(1)));
    note(&audit, 1);
    assert_eq!(verified(audit.path()), (2, 1, None));
}

#[test]
fn an_entry_that_says_too_much_is_cut() {
    let scratch = scratch();
    let audit = log(&scratch);
    let who = who();
    let detail = json!({ "command": "x".repeat(1_000_000) });
    let size = detail.to_string().len();
    audit.append(&Entry { detail, ..Entry::new(Kind::Command, &who) }).unwrap();
    note(&audit, 2);
    let entries = entries(audit.path(), Filter::default());
    assert_eq!(entries[0].detail["left_out"]["bytes"], size);
    // The longest that is not cut, so that its successor has to look back far.
    let detail = json!({ "number": 3, "command": "x".repeat(65_000) });
    audit.append(&Entry { detail, ..Entry::new(Kind::Command, &who) }).unwrap();
    note(&audit, 4);
    assert_eq!(verified(audit.path()), (4, 0, None));
    assert_eq!(numbers(audit.path()), [2, 3, 4]);
    let client = Who { client: "y".repeat(100_000), ..who };
    let refused = audit.append(&Entry::new(Kind::Command, &client));
    assert!(matches!(refused, Err(AuditError::TooLong { .. })));
    assert_eq!(verified(audit.path()), (4, 0, None));
}

#[test]
fn what_can_not_be_written_is_an_error() {
    let scratch = scratch();
    let who = who();
    let refused = |path: PathBuf| {
        let err = Audit::at(path).append(&Entry::new(Kind::Stop, &who)).unwrap_err();
        assert!(!err.hint().is_empty());
        err
    };
    let missing = refused(scratch.path().join("missing/audit.jsonl"));
    assert!(matches!(missing, AuditError::Write { .. }));
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    assert!(matches!(refused(link), AuditError::Write { .. }));
    assert!(refused("/dev/full".into()).to_string().contains("not a regular file"));
    // Much that holds no entry at all: neither read for ever nor taken for the start of a log.
    let junk = scratch.path().join("junk");
    fs::write(&junk, vec![b'x'; 3_000_000]).unwrap();
    assert!(matches!(refused(junk.clone()), AuditError::NoEnd { .. }));
    let mut read = read(&junk, Filter::default()).unwrap();
    assert!(matches!(read.next(), Some(Err(AuditError::Unreadable { line: 1, .. }))));
    assert!(read.next().is_none());
}

#[test]
fn a_full_disk_is_an_error_and_tears_nothing() {
    let test = "audit::a_full_disk_is_an_error_and_tears_nothing";
    if let Some((dirs, _)) = told() {
        let audit = Audit::at(dirs.audit());
        let who = who();
        let entry = Entry { detail: json!("x".repeat(5_000)), ..Entry::new(Kind::File, &who) };
        let (count, err) =
            (0..).find_map(|count| Some((count, audit.append(&entry).err()?))).unwrap();
        assert_eq!(err.hint(), "make room on its disk");
        assert!(count > 0);
        assert_eq!(verified(audit.path()), (count, 0, None));
        return;
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.prepare().unwrap();
    if let Some(mut child) = again_on(SMALL, dirs.state(), test, &scratch) {
        assert!(child.status().unwrap().success());
    }
}

#[test]
fn a_log_on_a_read_only_disk_can_be_read() {
    let test = "audit::a_log_on_a_read_only_disk_can_be_read";
    if let Some((dirs, _)) = told() {
        let who = who();
        let err = Audit::at(dirs.audit()).append(&Entry::new(Kind::Stop, &who)).unwrap_err();
        assert!(err.hint().starts_with("make it writable"), "{err}");
        assert_eq!(verified(&dirs.audit()), (1, 0, None));
        assert_eq!(numbers(&dirs.audit()), [1]);
        return;
    }
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.prepare().unwrap();
    note(&Audit::at(dirs.audit()), 1);
    if let Some(mut child) = again_on(READ_ONLY, dirs.state(), test, &scratch) {
        assert!(child.status().unwrap().success());
    }
}

#[test]
fn kinds_have_one_name() {
    for kind in Kind::ALL {
        assert_eq!(json!(kind), kind.name());
    }
}

#[test]
fn a_follower_sees_what_is_there_and_what_comes() {
    let scratch = scratch();
    let audit = log(&scratch);
    let (tells, told) = mpsc::channel();
    let mut following = follow(audit.path(), Filter::default()).unwrap();
    thread::spawn(move || {
        for entry in following.by_ref() {
            let number = entry.unwrap().detail["number"].as_u64().unwrap();
            tells.send(number).unwrap();
            if number == 99 {
                break;
            }
        }
    });
    let next = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    // The log is not there yet.
    for number in 1..=20 {
        note(&audit, number);
        assert_eq!(next(), number);
    }
    // A line that comes in two parts is one.
    let text = fs::read_to_string(audit.path()).unwrap();
    note(&audit, 21);
    let all = fs::read_to_string(audit.path()).unwrap();
    assert_eq!(next(), 21);
    let mut file = OpenOptions::new().append(true).open(audit.path()).unwrap();
    let line = &all[text.len()..];
    file.write_all(&line.as_bytes()[..50]).unwrap();
    file.write_all(&line.as_bytes()[50..]).unwrap();
    assert_eq!(next(), 21);
    // Somebody moves it away, and a new one begins.
    fs::rename(audit.path(), audit.path().with_extension("old")).unwrap();
    note(&audit, 50);
    assert_eq!(next(), 50);
    note(&audit, 99);
    assert_eq!(next(), 99);
}

#[test]
fn a_follower_waits_for_the_folder_too() {
    let scratch = scratch();
    let path = scratch.path().join("not/yet/audit.jsonl");
    let (tells, told) = mpsc::channel();
    let mut following = follow(&path, Filter::default()).unwrap();
    thread::spawn(move || {
        let entry = following.next().unwrap().unwrap();
        tells.send(entry.detail["number"].as_u64()).unwrap();
    });
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    note(&Audit::at(path), 7);
    assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(Some(7)));
}

/// `cargo test --release -p agentkernel-store -- --ignored --nocapture append_takes`
#[test]
#[ignore = "a measurement"]
fn append_takes_microseconds() {
    let scratch = scratch();
    let audit = log(&scratch);
    let who = who();
    let sandbox = subject("brisk-otter-3f2a");
    let spec = digest("{}");
    let mut took: Vec<Duration> = (0..10_000)
        .map(|_| {
            let start = Instant::now();
            let entry = Entry {
                sandbox: Some(&sandbox),
                backend: Some("native"),
                spec: Some(&spec),
                detail: json!({ "command": words(["echo", "hello"]) }),
                ..Entry::new(Kind::Command, &who)
            };
            audit.append(&entry).unwrap();
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!("append: median {:?}, p99 {:?}", took[5_000], took[9_900]);
    assert_eq!(verified(audit.path()), (10_000, 0, None));
}
