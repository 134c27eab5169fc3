//! The ways that lead a command into a sandbox.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a command gets into its sandbox. What a command meets there is the same on every route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `run`, which makes a sandbox for the command alone.
    Cold,
    /// `create`, `start` and `exec`: the sandbox lives on, until its scratch folder goes.
    Live,
    /// `run` beside a daemon that has made a sandbox for these flags ahead.
    Pool,
}

impl Route {
    pub const ALL: [Self; 3] = [Self::Cold, Self::Live, Self::Pool];

    /// The word for it in names of tests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Live => "live",
            Self::Pool => "pool",
        }
    }

    /// Adds to `command`, the bare program, what leads `argv` with the flags of a run on this
    /// route. Where that takes more than one step, the last is executed in place of the shell
    /// that does the others, so that signals and streams are its own, and the first step that
    /// fails is the whole's end.
    pub(crate) fn lead(
        self,
        command: &Command,
        backend: &str,
        flags: &[impl AsRef<OsStr>],
        argv: &[impl AsRef<OsStr>],
    ) -> Command {
        let flags: Vec<OsString> = flags.iter().map(|flag| flag.as_ref().to_owned()).collect();
        let backend = vec!["-B".into(), backend.into()];
        let run = [vec!["run".into()], backend.clone(), flags.clone()].concat();
        let (of_spec, of_command) = split(flags);
        let spec = [backend, of_spec].concat();
        let name = fresh_name();
        let (steps, last) = match self {
            Self::Cold => (vec![], run),
            Self::Live => {
                let create = [vec!["create".into()], spec, vec![name.clone()]].concat();
                let exec = [vec!["exec".into()], of_command, vec![name.clone()]].concat();
                (vec![create, vec!["start".into(), name]], exec)
            }
            Self::Pool => {
                let daemon = ["daemon", "start", "-b"].map(Into::into).to_vec();
                let set = ["pool".into(), "set".into(), name, "1".into()].to_vec();
                (vec![daemon, [set, spec].concat()], run)
            }
        };
        let mut whole = one_after_another(command, &steps);
        whole.args(last).arg("--").args(argv);
        whole
    }
}

/// A name that no other sandbox of these tests has.
pub(crate) fn fresh_name() -> OsString {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("sandbox-{}", COUNT.fetch_add(1, Ordering::Relaxed)).into()
}

/// Executes `command` after the same program has taken these steps, in silence but for errors.
/// With none it is the command itself.
fn one_after_another(command: &Command, steps: &[Vec<OsString>]) -> Command {
    let program = command.get_program();
    let mut whole = match steps {
        [] => Command::new(program),
        steps => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(script(steps)).arg(program);
            shell
        }
    };
    whole.env_clear();
    let variables = command.get_envs();
    whole.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        whole.current_dir(directory);
    }
    whole
}

fn script(steps: &[Vec<OsString>]) -> OsString {
    let mut script = Vec::new();
    for step in steps {
        script.extend(b"\"$0\"");
        for word in step {
            script.extend(b" '");
            // The one byte that a quoted word can't hold.
            let quoted = word.as_bytes().split(|byte| *byte == b'\'').collect::<Vec<_>>();
            script.extend(quoted.join(&b"'\\''"[..]));
            script.extend(b"'");
        }
        script.extend(b" </dev/null >/dev/null || exit; ");
    }
    script.extend(b"exec \"$0\" \"$@\"");
    OsString::from_vec(script)
}

/// The flags that are about a command, not about its sandbox, and have no value.
const OF_A_COMMAND: [&str; 9] =
    ["--tty", "-t", "--no-tty", "-T", "--interactive", "-i", "--no-stdin", "--json", "--verbose"];

/// Those that have one.
const OF_A_COMMAND_WITH_VALUE: [&str; 10] = [
    "-e",
    "--env",
    "--env-file",
    "-w",
    "--workdir",
    "--directory",
    "-u",
    "--user",
    "--timeout",
    "--report",
];

/// The flags of a sandbox that have no value, or none in a word of its own.
const OF_A_SANDBOX_ALONE: [&str; 5] =
    ["--no-network", "--project", "--strict", "--no-config", "--trust"];

/// The flags of a run, as those of its sandbox and those of its command.
fn split(flags: Vec<OsString>) -> (Vec<OsString>, Vec<OsString>) {
    let (mut of_spec, mut of_command) = (Vec::new(), Vec::new());
    let mut words = flags.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let (flag, whole) = match text.split_once('=') {
            Some((flag, _)) if flag.starts_with("--") => (flag, true),
            _ => (text.as_str(), false),
        };
        let with_value = OF_A_COMMAND_WITH_VALUE.contains(&flag);
        let mine = with_value || OF_A_COMMAND.contains(&flag);
        let takes_another = with_value || !mine && !OF_A_SANDBOX_ALONE.contains(&flag);
        let side = if mine { &mut of_command } else { &mut of_spec };
        side.push(word);
        if takes_another && !whole {
            side.extend(words.next());
        }
    }
    (of_spec, of_command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<OsString> {
        texts.iter().map(Into::into).collect()
    }

    #[test]
    fn flags_go_to_the_sandbox_or_to_the_command() {
        let flags = [
            "--memory",
            "1g",
            "-e",
            "A=b",
            "--project",
            "-t",
            "-v",
            "a:b",
            "--user=0",
            "--strict",
            "--project=x:cow",
            "--report",
            "file",
            "-w",
            "/tmp",
            "-m",
            "1g",
        ];
        let (of_spec, of_command) = split(words(&flags));
        let spec =
            ["--memory", "1g", "--project", "-v", "a:b", "--strict", "--project=x:cow", "-m"];
        assert_eq!(of_spec, words(&[&spec[..], &["1g"]].concat()));
        let command = ["-e", "A=b", "-t", "--user=0", "--report", "file", "-w", "/tmp"];
        assert_eq!(of_command, words(&command));
    }

    #[test]
    fn a_step_takes_its_words_as_they_are_and_a_failure_ends_all() {
        let program = Command::new("/usr/bin/env");
        let odd = OsString::from_vec(b"it's \xff \"$HOME\"".to_vec());
        let test = |expected: OsString| {
            let step = ["test".into(), odd.clone(), "=".into(), expected].to_vec();
            let mut whole = one_after_another(&program, &[step]);
            whole.args(["echo", "last"]).output().unwrap()
        };
        let good = test(odd.clone());
        assert_eq!((good.status.code(), &good.stdout[..]), (Some(0), &b"last\n"[..]));
        let bad = test("other".into());
        assert_eq!((bad.status.code(), &bad.stdout[..]), (Some(1), &b""[..]));
    }
}
