//! The ways that lead a command into a sandbox.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
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

    /// What leads `argv` with the flags of a run on this route, in the environment of `command`,
    /// the bare program; with a module, `argv` are its arguments. Where that takes more than one step, the last is executed in place of
    /// the shell that does the others, so that signals and streams are its own, and the first
    /// step that fails is the whole's end. It may be executed more than once.
    pub(crate) fn lead(
        self,
        command: &Command,
        backend: &str,
        flags: &[impl AsRef<OsStr>],
        module: Option<&OsStr>,
        argv: &[impl AsRef<OsStr>],
    ) -> Command {
        let mut whole = match self.script(backend, flags, module) {
            None => {
                let mut run = Command::new(command.get_program());
                run.args(["run", "-B", backend]).args(flags).args(module).arg("--");
                run
            }
            Some(script) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(OsString::from_vec(script)).arg(command.get_program());
                shell
            }
        };
        whole.args(argv).env_clear();
        let variables = command.get_envs();
        whole.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            whole.current_dir(directory);
        }
        whole
    }

    /// The steps, for a shell with the program and the command's words as its arguments.
    fn script(
        self,
        backend: &str,
        flags: &[impl AsRef<OsStr>],
        module: Option<&OsStr>,
    ) -> Option<Vec<u8>> {
        let flags: Vec<OsString> = flags.iter().map(|flag| flag.as_ref().to_owned()).collect();
        let (of_spec, of_command) = split(flags.clone(), self);
        let backend = quoted(&["-B", backend]);
        let spec = [&backend[..], &quoted(&of_spec)].concat();
        let pool = pool_for(&spec);
        let module: Vec<&OsStr> = module.into_iter().collect();
        let image = match &module[..] {
            [] => Vec::new(),
            // A pool's places are for any module, whatever its file is called.
            module => {
                let mut image = OsString::from("module:");
                module.iter().for_each(|path| image.push(path));
                quoted(&["--image".into(), image])
            }
        };
        // As often as it is executed, it is another sandbox.
        let name = format!("{}-$$ ", fresh_name());
        let name = name.as_bytes();
        let steps = match self {
            Self::Cold => return None,
            Self::Live => vec![
                step(&[&quoted(&["create"]), &spec, &image, name]),
                step(&[&quoted(&["start"]), name]),
                last(&[&quoted(&["exec"]), &quoted(&of_command), name]),
            ],
            Self::Pool => vec![
                DAEMON.to_vec(),
                filled(&pool, &spec),
                last(&[&quoted(&["run"]), &backend, &quoted(&flags), &quoted(&module)]),
            ],
        };
        Some(steps.concat())
    }
}

/// Starts the daemon unless it runs; another of these scripts may be about to do so. If it can't
/// be had, the next step says why.
const DAEMON: &[u8] = b"for i in 1 2 3 4 5 6 7 8 9; do \"$0\" daemon status && break; \
    \"$0\" daemon start -b; done </dev/null >/dev/null 2>&1; ";

/// A name for the pool of this spec: there can be but one.
fn pool_for(spec: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    spec.hash(&mut hasher);
    format!("pool-{:x}", hasher.finish())
}

/// Sets the pool and waits until it has something, or can't be filled. Where another pool holds
/// the same, or the flags are wrong, the run itself shows what comes of it.
fn filled(pool: &str, spec: &[u8]) -> Vec<u8> {
    let set = [&b"\"$0\" "[..], &quoted(&["pool", "set", pool, "1"]), spec].concat();
    let known = format!("\"name\":\"{pool}\"[^}}]*\"(ready|failures)\":[1-9]");
    // Whoever fills it needs the processor, too.
    let look = format!("\"$0\" pool ls --json | grep -Eq '{known}' && break; sleep 0.02");
    let wait =
        format!("then for i in $(seq 300); do {look}; done; fi </dev/null >/dev/null 2>&1; ");
    [&b"if "[..], &set, b"; ", wait.as_bytes()].concat()
}

/// A name that no other sandbox of these tests has.
pub(crate) fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("sandbox-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Words for a shell, each with a space behind it.
fn quoted(words: &[impl AsRef<OsStr>]) -> Vec<u8> {
    let quote = |word: &OsStr| {
        // The one byte that a quoted word can't hold.
        let parts: Vec<_> = word.as_bytes().split(|byte| *byte == b'\'').collect();
        [&b"'"[..], &parts.join(&b"'\\''"[..]), b"' "].concat()
    };
    words.iter().flat_map(|word| quote(word.as_ref())).collect()
}

/// A step of the program, silent but for errors, whose failure ends the script.
fn step(words: &[&[u8]]) -> Vec<u8> {
    [&b"\"$0\" "[..], &words.concat(), b"</dev/null >/dev/null || exit; "].concat()
}

/// The program in place of the script, for the command in the script's own arguments.
fn last(words: &[&[u8]]) -> Vec<u8> {
    [&b"exec \"$0\" "[..], &words.concat(), b"-- \"$@\""].concat()
}

/// The flags that are about a command, not about its sandbox, and have no value.
const OF_A_COMMAND: [&str; 9] =
    ["--tty", "-t", "--no-tty", "-T", "--interactive", "-i", "--no-stdin", "--json", "--verbose"];

/// Those that have one.
const OF_A_COMMAND_WITH_VALUE: [&str; 12] = [
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
    "--invoke",
    "--entrypoint",
];

/// The flags of a sandbox that have no value, or none in a word of its own.
const OF_A_SANDBOX_ALONE: [&str; 5] =
    ["--no-network", "--project", "--strict", "--no-config", "--trust"];

/// Those that say whose a living sandbox is as well, and so where its home is.
const OF_BOTH: [&str; 2] = ["-u", "--user"];

/// The flags of a run, as those of its sandbox and those of its command.
fn split(flags: Vec<OsString>, route: Route) -> (Vec<OsString>, Vec<OsString>) {
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
        let mut all = vec![word];
        if takes_another && !whole {
            all.extend(words.next());
        }
        if !mine || route == Route::Live && OF_BOTH.contains(&flag) {
            of_spec.extend(all.clone());
        }
        if mine {
            of_command.extend(all);
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
        let flags = "--memory 1g -e A=b --project -t -v a:b --user=0 --strict --project=x:cow \
                     --report file -w /tmp -m 1g";
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let (of_spec, of_command) = split(words(&flags), Route::Live);
        let spec = "--memory 1g --project -v a:b --user=0 --strict --project=x:cow -m 1g";
        let spec: Vec<&str> = spec.split(' ').collect();
        assert_eq!(of_spec, words(&spec));
        let command = ["-e", "A=b", "-t", "--user=0", "--report", "file", "-w", "/tmp"];
        assert_eq!(of_command, words(&command));
    }

    #[test]
    fn a_module_is_the_image_of_what_lives_and_a_word_else_and_no_part_of_a_pool() {
        let bare = Command::new("agentkernel");
        let lead = |route: Route| {
            let flags = ["-m", "1g", "--invoke", "f"];
            let command = route.lead(&bare, "wasm", &flags, Some("a.wat".as_ref()), &["1"]);
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>()
        };
        let cold = "run -B wasm -m 1g --invoke f a.wat -- 1";
        assert_eq!(lead(Route::Cold).join(" "), cold);
        let has = |route, part: &str| lead(route)[1].contains(part);
        assert!(has(
            Route::Live,
            "'create' '-B' 'wasm' '-m' '1g' '--image' 'module:a.wat' sandbox-"
        ));
        assert!(has(Route::Live, "'exec' '--invoke' 'f' sandbox-"));
        assert!(has(Route::Pool, "'run' '-B' 'wasm' '-m' '1g' '--invoke' 'f' 'a.wat' -- "));
        assert!(has(Route::Pool, "'1' '-B' 'wasm' '-m' '1g' ; then "));
    }

    #[test]
    fn a_step_takes_its_words_as_they_are_and_a_failure_ends_all() {
        let odd = OsString::from_vec(b"it's \xff \"$HOME\"".to_vec());
        let test = |expected: &OsStr| {
            let words = quoted(&[OsStr::new("test"), &odd, OsStr::new("="), expected]);
            let script = [step(&[&words]), last(&[&quoted(&["echo"])])].concat();
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(OsString::from_vec(script)).args(["/usr/bin/env", "its own"]);
            shell.output().unwrap()
        };
        let good = test(&odd);
        assert_eq!((good.status.code(), &good.stdout[..]), (Some(0), &b"-- its own\n"[..]));
        let bad = test("other".as_ref());
        assert_eq!((bad.status.code(), &bad.stdout[..]), (Some(1), &b""[..]));
    }
}
