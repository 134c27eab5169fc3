//! What starts a command: the image's shell, which becomes its program.
//!
//! Every text goes as an argument of its own, and none into the script.

use std::ffi::{CStr, CString};

use agentkernel_core::Process;
use agentkernel_protocol::Stage;

use super::{ENV, SHELL};

/// Looks for the program as an agent does, and says in a first line the stage and the error that it has
/// come to (`0` and its own number if it is there), before it becomes the program. A shell would run
/// what is no program as a script of its own, so it looks at the first bytes, too. In a terminal it waits
/// for a line, so that the size can be set before anything runs.
const START: &str = r#"
if ! cd "$2" 2>/dev/null; then
  if [ ! -e "$2" ]; then echo 6 2; elif [ ! -d "$2" ]; then echo 6 20; else echo 6 13; fi
  exit
fi
if [ "$1" = shared ]; then exec 2>&1; fi
_ak_mode=$1 _ak_why=2
shift 2
while [ "$1" != -- ]; do
  if [ -f "$1" ] && [ -x "$1" ]; then
    _ak_head='#!'
    if [ -r "$1" ]; then IFS= read -r _ak_head <"$1"; fi
    case $_ak_head in '#!'*|?ELF*) _ak_why=0;; *) _ak_why=8;; esac
    break
  fi
  if [ -e "$1" ]; then _ak_why=13; fi
  shift
done
if [ $_ak_why != 0 ]; then echo 10 $_ak_why; exit; fi
while [ "$1" != -- ]; do shift; done
shift
echo 0 $$
if [ $_ak_mode = terminal ]; then read -r _ak_head; fi
exec "$@"
"#;

/// Sends a signal.
const SIGNAL: &str = r#"kill -"$1" "$2""#;

/// How a command's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Apart,
    /// Errors go where the output does.
    Shared,
    Terminal,
}

/// The words of an `exec`, and the variables that it has.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    pub command: Vec<String>,
    pub variables: Vec<String>,
}

/// Numbers that Linux has had on every architecture for ever; std names only their kinds.
mod errno {
    pub(super) const INVALID: i32 = 22;
    pub(super) const NO_TEXT: i32 = 84;
}

/// What shells make or change by themselves, or an engine adds.
const SHELLS: [&str; 5] = ["HOSTNAME", "PWD", "OLDPWD", "SHLVL", "_"];

/// What shells keep for themselves.
const OWN: [&str; 16] = [
    "DIRSTACK",
    "ENV",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "IFS",
    "LINENO",
    "OPTARG",
    "OPTIND",
    "PPID",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "UID",
];

/// What starts `process`, or why nothing can.
pub fn start(process: &Process, mode: Mode) -> Result<Words, (Stage, i32)> {
    let mode = match mode {
        Mode::Apart => "apart",
        Mode::Shared => "shared",
        Mode::Terminal => "terminal",
    };
    let argv = texts(&process.argv)?;
    if argv.first().is_some_and(|program| program.contains('=')) {
        // It would be taken for a variable.
        return Err((Stage::Program, errno::INVALID));
    }
    // A shell drops a variable whose name it could not use itself, and changes some others.
    let (plain, odd): (Vec<_>, Vec<_>) =
        texts(&process.environment)?.into_iter().partition(|variable| is_plain(variable));
    let mut command: Vec<String> = [SHELL, "-c", START, "sh", mode].map(Into::into).into();
    command.push(text(&process.directory)?);
    command.extend(texts(&process.programs)?);
    command.extend(["--", ENV].map(Into::into));
    command.extend(SHELLS.iter().flat_map(|name| ["-u".into(), (*name).into()]));
    command.push("--".into());
    command.extend(odd);
    command.extend(argv);
    Ok(Words { command, variables: plain })
}

/// What sends a signal to a process, to a group by a number below 0, or by -1 to all whom the same user
/// may send one.
pub fn signal(signal: u8, to: i64) -> Vec<String> {
    let to = to.to_string();
    [SHELL, "-c", SIGNAL, "sh", &name(signal), &to].map(Into::into).into()
}

/// A signal's name: its number may be another one on another machine.
fn name(signal: u8) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::from(signal).checked_sub(1).and_then(|at| NAMES.get(at));
    name.map_or_else(|| signal.to_string(), |name| (*name).to_owned())
}

/// Whether a variable comes through a shell as it is.
fn is_plain(variable: &str) -> bool {
    let name = variable.split('=').next().unwrap_or_default();
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let is_word = name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit());
    is_word && !SHELLS.contains(&name) && !OWN.contains(&name) && !name.starts_with("BASH")
}

fn texts(all: &[CString]) -> Result<Vec<String>, (Stage, i32)> {
    all.iter().map(|one| text(one)).collect()
}

/// The API takes text alone.
fn text(bytes: &CStr) -> Result<String, (Stage, i32)> {
    bytes.to_str().map(Into::into).map_err(|_| (Stage::Program, errno::NO_TEXT))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn process(programs: &[&str], argv: &[&str], directory: &str, variables: &[&str]) -> Process {
        let texts = |all: &[&str]| all.iter().map(|one| CString::new(*one).unwrap()).collect();
        Process {
            is_module: false,
            programs: texts(programs),
            argv: texts(argv),
            environment: texts(variables),
            directory: CString::new(directory).unwrap(),
            uid: 0,
            gid: 0,
            writable: Vec::new(),
            no_setuid_files: false,
        }
    }

    /// What this machine's own shell makes of it, without its first line's second number.
    fn said(process: &Process) -> String {
        let Words { command, variables } = start(process, Mode::Apart).unwrap();
        let mut shell = Command::new(&command[0]);
        shell.args(&command[1..]).env_clear().env("HOSTNAME", "x");
        shell.envs(variables.iter().filter_map(|variable| variable.split_once('=')));
        let output = shell.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.strip_prefix("0 ").and_then(|text| text.split_once('\n')) {
            Some((_, rest)) => rest.to_owned(),
            None => text,
        }
    }

    #[test]
    fn a_program_gets_its_arguments_and_variables_as_they_are() {
        let argv = ["printf", "%s|", "", "two words", "$(id)", "'", "*", "--", "é\n"];
        let process =
            process(&["/nowhere/printf", "/usr/bin/printf"], &argv, "/", &["PATH=/usr/bin"]);
        assert_eq!(said(&process), "|two words|$(id)|'|*|--|é\n|");
    }

    #[test]
    fn variables_are_those_that_were_asked_for_and_no_others() {
        let mut asked = ["A.B=c d", "EMPTY=", "IFS=x", "PATH=/usr/bin", "PWD=/else", "TOKEN=a=b"];
        let told = said(&process(&["/usr/bin/env"], &["env"], "/tmp", &asked));
        let mut told: Vec<&str> = told.lines().collect();
        told.sort_unstable();
        asked.sort_unstable();
        assert_eq!(told, asked);
        // They are not for whoever reads a list of commands.
        let words = start(&process(&["/x"], &["x"], "/", &["SECRET_KEY=s3"]), Mode::Apart).unwrap();
        assert!(!words.command.iter().any(|word| word.contains("s3")));
    }

    #[test]
    fn what_cannot_be_started_is_told_by_its_stage_and_error() {
        let of = |programs: &[&str], directory| said(&process(programs, &["x"], directory, &[]));
        assert_eq!(of(&["/nowhere/x"], "/"), "10 2\n");
        assert_eq!(of(&["/nowhere/x", "/etc/passwd"], "/"), "10 13\n");
        assert_eq!(of(&["/tmp"], "/"), "10 13\n");
        assert_eq!(of(&["/usr/bin/true"], "/nowhere"), "6 2\n");
        assert_eq!(of(&["/usr/bin/true"], "/etc/passwd"), "6 20\n");
        let script =
            std::env::temp_dir().join(format!("agentkernel-script-{}", std::process::id()));
        let mut made = Command::new("sh");
        made.arg("-c").arg("echo echo no >$0; chmod +x $0").arg(&script);
        assert!(made.status().unwrap().success());
        let told = of(&[script.to_str().unwrap()], "/");
        std::fs::remove_file(&script).unwrap();
        assert_eq!(told, "10 8\n");
    }

    #[test]
    fn what_is_no_text_or_would_be_taken_for_a_variable_is_refused() {
        let mut odd = process(&["/x"], &["a=b"], "/", &[]);
        assert_eq!(start(&odd, Mode::Apart), Err((Stage::Program, errno::INVALID)));
        odd.argv = vec![CString::new(vec![0xff]).unwrap()];
        assert_eq!(start(&odd, Mode::Apart), Err((Stage::Program, errno::NO_TEXT)));
    }

    #[test]
    fn signals_are_sent_by_their_names() {
        assert_eq!(signal(15, -7)[3..], ["sh", "TERM", "-7"]);
        assert_eq!((name(31), name(40)), ("SYS".into(), "40".into()));
    }
}
