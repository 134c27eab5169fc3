use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{Access, Network};
use agentkernel_engine::Terminal;
use agentkernel_wire::ProjectRequest;

use super::*;

fn parse_all(words: &[&str]) -> Result<(Invocation, LowArgs), CommandError> {
    let mut low = LowArgs::default();
    let invocation = parse(words.iter().map(OsString::from), &mut low)?;
    Ok((invocation, low))
}

/// What `agentkernel run WORDS -- true` says.
fn run(words: &[&str]) -> LowArgs {
    let words = [&["run"], words, &["--", "true"]].concat();
    let (invocation, low) = parse_all(&words).unwrap();
    assert_eq!(invocation, Invocation::Verb(Verb::Run));
    assert_eq!(low.words, ["true"], "{words:?}");
    low
}

fn err(words: &[&str]) -> String {
    let CommandError { message, hint, exit_code, .. } = parse_all(words).unwrap_err();
    assert_eq!(exit_code, 125);
    format!("{message} ({})", hint)
}

#[test]
fn flags_end_at_the_command() {
    for words in
        [&["run", "echo", "--json", "--", "-x"][..], &["run", "--", "echo", "--json", "--", "-x"]]
    {
        let (_, low) = parse_all(words).unwrap();
        assert_eq!(low.words, ["echo", "--json", "--", "-x"], "{words:?}");
        assert!(!low.json);
    }
    let (_, low) = parse_all(&["run", "--", "--json"]).unwrap();
    assert_eq!(low.words, ["--json"]);
}

#[test]
fn words_that_are_not_utf8_are_kept() {
    let word = OsStr::from_bytes(b"a\xff").to_owned();
    let mut low = LowArgs::default();
    let words = ["run".into(), "--report".into(), word.clone(), word.clone()];
    parse(words, &mut low).unwrap();
    assert_eq!(low.words, [word.as_os_str()]);
    assert_eq!(low.report, Some(PathBuf::from(word)));
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    let low =
        run(&["--timeout", "1s", "--timeout=2s", "-t", "-T", "--network=full", "--no-network"]);
    assert_eq!(low.spec.timeout, Some(Duration::from_secs(2)));
    assert_eq!(low.terminal, Some(Terminal::Never));
    assert_eq!(low.spec.network, Some(Network::None));
}

#[test]
fn lists_keep_every_repetition() {
    let low = run(&["-v", "a:/a", "--volume=b:/b", "-eA=1", "-e", "B", "--env-file=f"]);
    assert_eq!(low.spec.volumes.len(), 2);
    assert_eq!(low.spec.env.len(), 2);
    assert_eq!(low.env_files, [PathBuf::from("f")]);
}

#[test]
fn a_project_takes_its_value_only_after_an_equals_sign() {
    let on = |directory: Option<&str>, access| {
        let directory = directory.map(PathBuf::from);
        Some(ProjectRequest::On { directory, access })
    };
    for (words, project) in [
        (&["--project"][..], on(None, None)),
        (&["--project=src"], on(Some("src"), None)),
        (&["--project=src:ro"], on(Some("src"), Some(Access::ReadOnly))),
        (&["--project=:rw"], on(None, Some(Access::ReadWrite))),
        (&["--project=false"], Some(ProjectRequest::Off)),
        (&["--dir", "src"], on(Some("src"), None)),
    ] {
        assert_eq!(run(words).spec.project, project, "{words:?}");
    }
}

#[test]
fn old_habits_work() {
    let low = run(&["-it", "--net", "none", "--pids-limit=3", "--directory", "/srv", "-m", "1g"]);
    assert_eq!(low.terminal, Some(Terminal::Always));
    assert_eq!(low.spec.network, Some(Network::None));
    assert_eq!(low.spec.pids.map(|pids| pids.get()), Some(3));
    assert_eq!(low.spec.directory, Some("/srv".into()));
    assert!(low.spec.memory.is_some());
}

#[test]
fn version_and_help_are_answered_wherever_they_stand() {
    for (words, invocation) in [
        (&["-V"][..], Invocation::Version),
        (&["--version"], Invocation::Version),
        (&["run", "--version"], Invocation::Version),
        (&["--help"], Invocation::Help(None)),
        (&["run", "--json", "-h"], Invocation::Help(Some(Verb::Run))),
        (&["doctor", "--help"], Invocation::Help(Some(Verb::Doctor))),
    ] {
        assert_eq!(parse_all(words).unwrap().0, invocation, "{words:?}");
    }
    assert_eq!(parse_all(&["run", "ls", "--help"]).unwrap().0, Invocation::Verb(Verb::Run));
}

#[test]
fn mistakes_are_answered_with_what_was_probably_meant() {
    for (words, part) in [
        (&[][..], "no verb"),
        (&["rum"], "did you mean \"run\"?"),
        (&["banana"], "agentkernel help"),
        (&["--json"], "stands before the verb"),
        (&["run", "--memroy=1g"], "did you mean --memory?"),
        (&["run", "--banana"], "agentkernel help run"),
        (&["run", "-x"], "no flag -x"),
        (&["doctor", "--memory=1g"], "doctor has no flag --memory"),
        (&["run", "--memory"], "--memory needs a value: SIZE"),
        (&["run", "--memory", "12x"], "--memory: \"12x\" is not"),
        (&["run", "--json=yes"], "--json"),
        (&["run", "--project="], "--project: \"\" is not"),
        (&["run", "-e", "=v"], "--env: the name"),
    ] {
        let err = err(words);
        assert!(err.contains(part), "{words:?}: {err}");
    }
}

#[test]
fn what_came_before_a_mistake_is_kept() {
    let mut low = LowArgs::default();
    let words = ["run", "--json", "--banana"].map(OsString::from);
    assert!(parse(words, &mut low).is_err());
    assert!(low.json);
}
