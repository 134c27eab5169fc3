//! A sandbox whose files only its agent reaches.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use agentkernel_files::{
    Agent, Errand, Inside, Streams, TransferError, Transferred, copy_in, copy_out, tar_out,
};

use crate::common::Scratch;
use crate::scene::{AS_IT_IS, DIRECTORY, FAR, FILE, HARD_LINK, LINK, archive, is_far, members};

/// What is about another kind of sandbox, and what an archive can't have: names without end, and to be in itself.
const SKIPPED: [&str; 5] =
    ["foreign", "far::", "deep_trees", "a_growing_file", "a_tree_is_not_copied_into_itself"];

#[test]
fn all_holds_where_only_an_agent_reaches_the_files() {
    if is_far() {
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(SKIPPED.iter().flat_map(|name| ["--skip", name])).env(FAR, "1");
    assert!(again.status().unwrap().success());
}

const ALL_WELL: &str =
    r#"{"files":1,"directories":0,"bytes":1,"refused":[],"refusals":0,"failure":null}"#;

/// An agent that sends and reports whatever it likes.
struct Liar {
    sends: Vec<u8>,
    reports: String,
}

impl Agent for Liar {
    fn run(&self, _errand: &Errand<'_>) -> io::Result<Streams> {
        let (theirs, input) = io::pipe()?;
        let (output, mut to_output) = io::pipe()?;
        let (report, mut to_report) = io::pipe()?;
        let (sends, reports) = (self.sends.clone(), self.reports.clone());
        std::thread::spawn(move || {
            drop(theirs);
            let _ = to_output.write_all(&sends);
            drop(to_output);
            let _ = to_report.write_all(reports.as_bytes());
        });
        let [input, output, report] = [OwnedFd::from(input), output.into(), report.into()];
        Ok(Streams { input: input.into(), output: output.into(), report: report.into() })
    }
}

fn liar(sends: &[(&str, tar::EntryType, &str)]) -> Liar {
    Liar { sends: archive(sends), reports: ALL_WELL.into() }
}

fn taken(agent: &Liar, source: &str, target: &Path) -> Result<Transferred, TransferError> {
    copy_out(&Inside::Far(agent), source.as_ref(), target, AS_IT_IS)
}

#[test]
fn an_agent_puts_nothing_but_what_was_asked_for() {
    let cases: &[(&str, &[(&str, tar::EntryType, &str)])] = &[
        ("/a/wanted", &[(".bashrc", FILE, "x")]),
        ("/a/wanted", &[("wanted", FILE, "x"), (".bashrc", FILE, "x")]),
        ("/a/wanted", &[("wanted/", DIRECTORY, ""), (".bashrc", FILE, "x")]),
        ("/a/wanted", &[("wanted/", DIRECTORY, ""), ("wanted/../.bashrc", FILE, "x")]),
        ("/a/wanted", &[("wanted/", DIRECTORY, ""), ("wanted/x", HARD_LINK, "there")]),
        (
            "/a/wanted",
            &[
                ("wanted/", DIRECTORY, ""),
                ("wanted/l", LINK, ".."),
                ("wanted/l/.bashrc", FILE, "x"),
            ],
        ),
        ("/a/wanted", &[("wanted/x/.bashrc", FILE, "x")]),
        ("/a/wanted", &[("wanted", HARD_LINK, "there")]),
        ("/a/wanted", &[("wanted", tar::EntryType::Char, "")]),
        ("/a/wanted", &[("./", DIRECTORY, ""), (".bashrc", FILE, "x")]),
        ("/a/.", &[("wanted/", DIRECTORY, "")]),
        ("/a/.", &[("./", DIRECTORY, ""), ("../.bashrc", FILE, "x")]),
    ];
    for (source, sends) in cases {
        let scratch = Scratch::new();
        let home = scratch.folder("home");
        fs::write(home.join("there"), "there").unwrap();
        let result = taken(&liar(sends), source, &home);
        assert!(result.is_err(), "{sends:?}: {result:?}");
        assert!(!home.join(".bashrc").exists(), "{sends:?}");
        assert_eq!(fs::read_to_string(home.join("there")).unwrap(), "there");
    }
}

#[test]
fn an_agents_report_is_bounded_and_plain() {
    let scratch = Scratch::new();
    let sends = archive(&[("wanted", FILE, "x")]);
    let failed = r#"{"files":0,"directories":0,"bytes":0,"refused":[],"refusals":0,"failure":{"Failed":{"action":"\u001b[2J","path":"\u001b]0;x","cause":{"Text":"\u001b[31mred"}}}}"#;
    for reports in ["", "nonsense", &"[".repeat(2 << 20), failed] {
        let agent = Liar { sends: sends.clone(), reports: reports.into() };
        let error = taken(&agent, "/wanted", &scratch.path("out")).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
    let many = vec![r#"["x","Device"]"#; 5000].join(",");
    let reports = ALL_WELL.replace(r#""refused":[]"#, &format!(r#""refused":[{many}]"#));
    let done = taken(&Liar { sends, reports }, "/wanted", &scratch.path("out")).unwrap();
    assert_eq!(done.refused.len(), 100);
}

#[test]
fn an_agent_that_takes_nothing_is_no_success() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), vec![7; 1 << 20]).unwrap();
    let agent = Liar { sends: Vec::new(), reports: ALL_WELL.into() };
    let result = copy_in(&scratch.path("file"), &Inside::Far(&agent), "/x".as_ref(), AS_IT_IS);
    assert!(matches!(result, Err(TransferError::Agent { .. })), "{result:?}");
}

#[test]
fn an_agents_directories_are_not_remembered() {
    let scratch = Scratch::new();
    // Each lies in the one before.
    let names: Vec<String> =
        (1..20).map(|depth| format!("wanted/{}", "a/".repeat(depth))).collect();
    let mut all = vec![("wanted/", DIRECTORY, "")];
    all.extend(names.iter().map(|name| (name.as_str(), DIRECTORY, "")));
    all.push(("wanted/file", FILE, "x"));
    all.push(("wanted/b/", DIRECTORY, ""));
    let done = taken(&liar(&all), "/wanted", &scratch.path("out")).unwrap();
    assert_eq!((done.directories, done.files), (21, 1));
    let changed = |path: &str| {
        let time = fs::metadata(scratch.path("out").join(path)).unwrap().modified().unwrap();
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    assert_eq!((changed(""), changed("a/a/a"), changed("b")), (1234, 1234, 1234));
}

#[test]
fn a_stream_holds_nothing_but_what_was_asked_for() {
    let stream = |sends: &[(&str, tar::EntryType, &str)]| {
        let mut out = Vec::new();
        let agent = liar(sends);
        tar_out(&Inside::Far(&agent), "/a/wanted".as_ref(), AS_IT_IS, &mut out).map(|_| out)
    };
    let good = stream(&[("wanted/", DIRECTORY, ""), ("wanted/l", LINK, "/etc/passwd")]);
    assert_eq!(members(&good.unwrap()), ["wanted/", "wanted/l"]);
    for bad in [
        ("../.bashrc", FILE, "x"),
        (".bashrc", FILE, "x"),
        ("wanted/../.bashrc", FILE, "x"),
        ("wanted/x", HARD_LINK, "/etc/passwd"),
        ("wanted/x", tar::EntryType::Block, ""),
    ] {
        let result = stream(&[("wanted/", DIRECTORY, ""), bad]);
        assert!(result.is_err(), "{bad:?}");
    }
}
