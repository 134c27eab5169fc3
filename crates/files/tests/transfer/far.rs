//! A sandbox whose files only its agent reaches.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use agentkernel_files::{
    Agent, ChangeKind, Errand, Ids, Inside, Layer, Owners, Streams, TransferError, Transferred,
    changes, copy_in, copy_out, export, fetch_layer, receive_folder, send_folder, tar_out,
};

use crate::common::Scratch;
use crate::scene::{
    AS_IT_IS, DIRECTORY, FAR, FILE, HARD_LINK, LINK, Scene, archive, is_far, members,
};

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
    type Member = (&'static str, tar::EntryType, &'static str);
    let cases: &[(&str, &[Member])] = &[
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
    let sent = [("wanted/", DIRECTORY, ""), ("wanted/l", LINK, "/etc/passwd")];
    // With its end.
    assert_eq!(stream(&sent).unwrap(), archive(&sent));
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

#[test]
fn a_layer_comes_as_the_overlay_has_it() {
    use rustix::fs::{FileType, Mode, XattrFlags, fsetxattr, makedev, mknodat};
    let scene = Scene::new();
    let upper = scene.root.join("dir");
    fs::create_dir_all(upper.join("hides/below")).unwrap();
    fs::create_dir(upper.join("copied")).unwrap();
    fs::write(upper.join("copied/file"), "changed").unwrap();
    fs::write(upper.join("new\nline"), "new").unwrap();
    std::os::unix::fs::symlink("../..", upper.join("link")).unwrap();
    let here = fs::File::open(upper.join("copied")).unwrap();
    let made = mknodat(&here, "gone", FileType::CharacterDevice, Mode::RUSR, makedev(0, 0));
    made.unwrap();
    let mark = |path: &str, name: &str, value: &[u8]| {
        let file = fs::File::open(upper.join(path)).unwrap();
        fsetxattr(&file, name, value, XattrFlags::empty()).is_ok()
    };
    if !mark("hides", "user.overlay.opaque", b"y") {
        eprintln!("skipped: this file system keeps no attributes");
        return;
    }
    assert!(mark("copied/file", "user.overlay.origin", b"\n=\0"));
    assert!(mark("copied", "user.overlay.origin", b""));
    let got = scene.host.join("layer");
    let done = fetch_layer(&scene, "dir".as_ref(), &got).unwrap();
    assert_eq!((done.refusals, done.directories), (0, 4));
    let layer = |upper: &Path| Layer {
        target: "/".into(),
        lower: None,
        upper: upper.into(),
        skip: Vec::new(),
    };
    let there = changes(&[layer(&upper)]).unwrap();
    let kinds: Vec<_> = there.iter().map(|change| (change.kind, change.path.to_str())).collect();
    let expected = [
        (ChangeKind::Changed, "/copied/file"),
        (ChangeKind::Deleted, "/copied/gone"),
        (ChangeKind::Added, "/hides"),
        (ChangeKind::Added, "/hides/below"),
        (ChangeKind::Added, "/link"),
        (ChangeKind::Added, "/new\nline"),
    ];
    assert_eq!(kinds, expected.map(|(kind, path)| (kind, Some(path))));
    assert_eq!(changes(&[layer(&got)]).unwrap(), there);
    let packed = |upper: &Path| {
        let mut out = Vec::new();
        let all = Ids { outside: 0, inside: 7, count: u32::MAX };
        export(&[layer(upper)], Owners { users: all, groups: all }, &mut out).unwrap();
        members(&out)
    };
    assert_eq!(packed(&got), packed(&upper));
    assert!(packed(&got).iter().any(|name| name.ends_with(".wh..wh..opq")));
}

#[test]
fn a_layer_holds_no_device_and_no_attribute_but_users() {
    let scratch = Scratch::new();
    let layer = |sends: &[(&str, tar::EntryType, &str)], name: &str| {
        fetch_layer(&liar(sends), "upper".as_ref(), &scratch.path(name))
    };
    // An archive of these has devices of no number.
    let device = [("./", DIRECTORY, ""), ("null", tar::EntryType::Block, "")];
    let done = layer(&device, "one").unwrap();
    assert_eq!((done.refusals, scratch.path("one/null").exists()), (1, false));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..2].copy_from_slice(b"./");
    header.set_entry_type(DIRECTORY);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let marks = format!("{}={},", hex("trusted.overlay.opaque"), hex("y"));
    let marks = [("AGENTKERNEL.attributes", marks.as_bytes())];
    builder.append_pax_extensions(marks).unwrap();
    builder.append(&header, io::empty()).unwrap();
    let agent = Liar { sends: builder.into_inner().unwrap(), reports: ALL_WELL.into() };
    assert!(fetch_layer(&agent, "upper".as_ref(), &scratch.path("two")).is_err());
}

#[test]
fn a_folder_goes_over_a_stream_that_goes_on() {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    fs::write(source.join("file"), "x").unwrap();
    let mut stream = Vec::new();
    let sent = send_folder(&source, &mut stream).unwrap();
    stream.extend(b"the next word");
    let mut rest = stream.as_slice();
    let owner = crate::scene::caller();
    let got = receive_folder(&mut rest, &scratch.path("got"), owner).unwrap();
    assert_eq!((sent.files, got.files, rest), (1, 1, b"the next word".as_slice()));
}
