//! Logs as an agent writes them, and as one may that means no good.

use std::fs;
use std::io::Write;

use agentkernel_protocol::{MAX_RECORD, Status};

use super::*;

/// A log's folder, which goes with this.
struct Scene(PathBuf);

impl Scene {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("agentkernel-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let scene = Self(folder);
        FILES.iter().for_each(|file| scene.holds(file, &[]));
        scene.holds(FILES[2], &END_FILE);
        scene
    }

    fn holds(&self, file: &str, bytes: &[u8]) {
        fs::write(self.0.join(file), bytes).unwrap();
    }

    fn gets(&self, file: &str, bytes: &[u8]) {
        let file = File::options().append(true).open(self.0.join(file));
        file.unwrap().write_all(bytes).unwrap();
    }

    fn open(&self) -> LogFiles {
        LogFiles::open(&self.0).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record(kind: RecordKind, at: u64, text: &[u8]) -> Vec<u8> {
    let header = RecordHeader { kind, length: text.len(), at: Duration::from_micros(at) };
    [&header.encode()[..], text].concat()
}

fn output(at: u64, text: &str) -> Vec<u8> {
    record(RecordKind::Output, at, text.as_bytes())
}

fn ended(at: u64) -> Vec<u8> {
    record(RecordKind::Ended, at, &Ending::Died(Status::Exited(3)).encode())
}

/// All that there is, as one text; an end is a full stop.
fn rest(log: &mut LogFiles) -> String {
    let mut all = String::new();
    // More than any of these logs holds: whoever is led in circles gets there.
    for _ in 0..100 {
        match log.next().unwrap() {
            Some(Entry::Output(text) | Entry::Errors(text)) => {
                all.push_str(&String::from_utf8_lossy(&text));
            }
            Some(Entry::Ended(_)) => all.push('.'),
            None => return all,
        }
    }
    panic!("it does not end: {all}");
}

#[test]
fn the_older_file_comes_first_and_each_once() {
    let scene = Scene::new("order");
    scene.holds("log.0", &output(30, "c"));
    scene.holds("log.1", &[output(10, "a"), output(20, "b")].concat());
    let mut log = scene.open();
    assert_eq!(rest(&mut log), "abc");
    scene.gets("log.0", &output(40, "d"));
    assert_eq!(rest(&mut log), "d");
    // It turns.
    scene.holds("log.1", &[output(50, "e"), ended(51)].concat());
    assert_eq!(rest(&mut log), "e.");
    assert_eq!(rest(&mut log), "");
    assert_eq!(rest(&mut scene.open()), "cde.");
}

#[test]
fn a_clock_that_goes_back_loses_nothing() {
    let scene = Scene::new("clock");
    scene.holds("log.0", &output(1000, "a"));
    let mut log = scene.open();
    assert_eq!(rest(&mut log), "a");
    scene.holds("log.1", &output(10, "b"));
    assert_eq!(rest(&mut log), "b");
}

#[test]
fn two_files_that_both_claim_to_be_newer_are_read_once() {
    let scene = Scene::new("circles");
    for (first, second) in [(7, 7), (u64::MAX, u64::MAX), (8, 7)] {
        scene.holds("log.0", &output(first, "a"));
        scene.holds("log.1", &output(second, "b"));
        let mut log = scene.open();
        assert_eq!(rest(&mut log).len(), 2);
        let mut skipped = scene.open();
        skipped.skip().unwrap();
        assert_eq!(rest(&mut skipped), "");
    }
}

#[test]
fn what_is_no_record_is_the_end_of_a_file() {
    let scene = Scene::new("nonsense");
    let mut absurd = output(2, "x");
    absurd[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut too_long = output(2, "x");
    too_long[4..8].copy_from_slice(&(MAX_RECORD as u32 + 1).to_le_bytes());
    let mut unknown = output(2, "x");
    unknown[0] = 9;
    let mut cut = output(2, "text that is missing");
    cut.truncate(RECORD_HEADER + 1);
    let no_end = record(RecordKind::Ended, 2, b"nonsense");
    for bad in [absurd, too_long, unknown, cut, no_end, vec![0; 4096], vec![255; 4096]] {
        scene.holds("log.0", &[output(1, "a"), bad, output(3, "b")].concat());
        let mut log = scene.open();
        assert_eq!(rest(&mut log), "a");
        assert_eq!(rest(&mut log), "");
    }
}

#[test]
fn files_of_any_size_are_gone_through_in_bounds() {
    let scene = Scene::new("sparse");
    // Records without text, and then nothing for a terabyte.
    scene.holds("log.0", &output(1, "").repeat(1000));
    let file = File::options().write(true).open(scene.0.join("log.0")).unwrap();
    file.set_len(1 << 40).unwrap();
    let mut log = scene.open();
    log.skip().unwrap();
    assert_eq!(log.passed(), 1001 * RECORD_HEADER as u64);
    // Far more text than a log may hold.
    let long = output(2, &"x".repeat(MAX_RECORD));
    (0..200).for_each(|_| scene.gets("log.1", &long));
    scene.holds("log.0", &[]);
    let mut log = scene.open();
    log.skip().unwrap();
    assert!(log.passed() <= MOST + long.len() as u64, "{}", log.passed());
}

#[test]
fn a_reader_that_was_overtaken_goes_on_where_a_file_begins() {
    let scene = Scene::new("overtaken");
    scene.holds("log.0", &[output(1, "a"), output(2, "b")].concat());
    let mut log = scene.open();
    assert!(matches!(log.next(), Ok(Some(Entry::Output(text))) if text == b"a"));
    // The command has filled both files since, and writes what looks like an end where the reader
    // stands.
    scene.holds("log.1", &output(10, "c"));
    let forged = [&[b'x'; 1][..], &ended(99), &[0; 64]].concat();
    scene.holds("log.0", &record(RecordKind::Output, 20, &forged));
    assert!(matches!(log.next(), Ok(Some(Entry::Output(text))) if text == b"c"));
    assert!(matches!(log.next(), Ok(Some(Entry::Output(text))) if text == forged));
    assert!(matches!(log.next(), Ok(None)));
}

#[test]
fn from_now_on_means_nothing_of_either_file() {
    let scene = Scene::new("now");
    scene.holds("log.0", &output(1, "a"));
    scene.holds("log.1", &output(2, "b"));
    let mut log = scene.open();
    log.skip().unwrap();
    assert_eq!(rest(&mut log), "");
    scene.gets("log.1", &[output(3, "c"), ended(4)].concat());
    assert_eq!(rest(&mut log), "c.");
}

#[test]
fn the_end_is_known_without_the_log() {
    let scene = Scene::new("end");
    assert_eq!(scene.open().ending().unwrap(), None);
    scene.holds(FILES[2], &Ending::TimedOut.encode());
    assert_eq!(scene.open().ending().unwrap(), Some(Ending::TimedOut));
    for nonsense in [&[][..], &[7, 7], &[1]] {
        scene.holds(FILES[2], nonsense);
        assert_eq!(scene.open().ending().unwrap(), None, "{nonsense:?}");
    }
}
