//! The command line as a black box: all that needs no sandbox.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with a home and a place to work in, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cli-{name}-{}", std::process::id()));
        for folder in ["home", "work/.git", "tmp"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        Self(path.canonicalize().unwrap())
    }

    /// Puts a file into the place to work in.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join("work").join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `agentkernel` with nothing of this machine's settings, nor of what others have left on it.
    fn agentkernel(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentkernel"));
        command
            .env_clear()
            .env("HOME", self.0.join("home"))
            // Else one would be started, and keep its folders where no variable leads elsewhere.
            .env("CONTAINER_HOST", "unix:///nowhere/podman.sock")
            .env("TMPDIR", self.0.join("tmp"))
            .current_dir(self.0.join("work"))
            .stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.agentkernel().args(args).output().unwrap()
    }

    /// What is said on standard error when `args` fail with 125, as they must.
    fn failure(&self, args: &[&str]) -> String {
        failure(self.agentkernel().args(args))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{command:?}: {said}");
    assert_eq!(output.stdout, b"", "{command:?}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
    str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn the_version_is_all_that_is_said_about_it() {
    let scratch = Scratch::new("version");
    // It must not even look at settings, or these would be errors.
    scratch.file("agentkernel.toml", "banana = 1");
    for args in [&["--version"][..], &["-V"], &["run", "-V"]] {
        let output = scratch.agentkernel().env("AGENTKERNEL_BANANA", "1").args(args).output();
        let expected = format!("agentkernel {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(stdout(&output.unwrap()), expected, "{args:?}");
    }
}

#[test]
fn help_is_the_same_by_flag_and_by_verb() {
    let scratch = Scratch::new("help");
    for (flag, verb) in [
        (&["--help"][..], &["help"][..]),
        (&["-h"], &["help"]),
        (&["run", "--help"], &["help", "run"]),
        (&["doctor", "-h"], &["help", "doctor"]),
        (&["completions", "-h"], &["help", "completions"]),
    ] {
        let by_flag = scratch.output(flag);
        assert!(stdout(&by_flag).contains("Usage: agentkernel"), "{flag:?}");
        assert_eq!(by_flag.stdout, scratch.output(verb).stdout, "{flag:?}");
    }
}

#[test]
fn mistakes_are_answered_once_with_a_hint() {
    let scratch = Scratch::new("mistakes");
    for (args, error, hint) in [
        (&[][..], "no verb was given", "agentkernel help"),
        (&["rum"], "unknown verb \"rum\"", "did you mean \"run\"?"),
        (&["run", "--memroy", "1g", "true"], "run has no flag --memroy", "did you mean --memory?"),
        (&["run"], "no command was given", "agentkernel run -- echo hello"),
        (&["doctor", "x"], "doctor doesn't take \"x\"", "agentkernel doctor [--json]"),
        (&["completions", "tcsh"], "completions doesn't take \"tcsh\"", "bash|zsh|fish"),
        (&["completions"], "no shell was named", "bash, zsh, fish"),
        (&["setup"], "nothing to set up was named", "agentkernel setup firecracker"),
        (&["setup", "firecracker", "x"], "setup doesn't take \"x\"", "[--kernel PATH]"),
        (&["help", "x"], "help doesn't take \"x\"", "agentkernel help [VERB]"),
    ] {
        let said = scratch.failure(args);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{args:?}: {said}");
        assert_eq!(lines[0], format!("error: {error}"), "{args:?}");
        assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{args:?}: {said}");
    }
}

#[test]
fn copies_and_changes_say_what_they_want() {
    let scratch = Scratch::new("changes");
    for (args, error, hint) in [
        (&["cp", "a"][..], "cp takes a source and a target", "cp [-L] NAME:PATH PATH|-"),
        (&["cp", "a", "./b:c"], "one of the two must be in a sandbox", "NAME:PATH"),
        (&["cp", "a:/b", "c:/d"], "one of the two must be in a sandbox", "NAME:PATH"),
        (&["cp", ":/b", "c"], "\"\" is not a valid name", "1 to 64"),
        (&["diff"], "no sandbox was named", "agentkernel diff"),
        (&["diff", "-p", "--patch", "a", "b"], "diff doesn't take \"b\"", "agentkernel diff"),
        (&["apply"], "no sandbox was named", "apply [--force] NAME [PATH...]"),
        (&["apply", "a"], "there is no sandbox \"a\"", ""),
        (&["export", "a"], "there is no sandbox \"a\"", ""),
        (&["cp", "a:/x", "y"], "there is no sandbox \"a\"", ""),
        (&["snapshot"], "nothing to do with snapshots was named", "snapshot create"),
        (&["snapshot", "keep"], "snapshot doesn't take \"keep\"", "snapshot create NAME"),
        (&["snapshot", "rm"], "no snapshot was named", "agentkernel snapshot ls"),
        (&["fork", "-n", "0", "a"], "--count: \"0\" is not a number of sandboxes", "help"),
        (&["create", "--from", "a", "--project"], "--from makes a sandbox as its", "--env"),
        (&["run", "--name", "a", "true"], "only a sandbox that is kept has a name", "--keep"),
    ] {
        let said = scratch.failure(args);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{args:?}: {said}");
        assert!(lines[0].starts_with(&format!("error: {error}")), "{args:?}: {said}");
        assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{args:?}: {said}");
    }
    // Who only asks leaves nothing behind.
    assert_eq!(
        stdout(&scratch.output(&["snapshot", "ls", "--json"])),
        "{\"version\":1,\"snapshots\":[]}\n"
    );
    assert!(fs::read_dir(scratch.0.join("home")).unwrap().next().is_none());
}

#[test]
fn wrong_values_name_their_flag_and_what_it_takes() {
    let scratch = Scratch::new("values");
    let project = scratch.0.join("work");
    let project = project.to_str().unwrap();
    for (args, part) in [
        (&["--memory", "12x"][..], "--memory: \"12x\" is not a size"),
        (&["--cpus", "0"], "--cpus: \"0\" is not a number of processors"),
        (&["--cpus", "1000"], "more than the machine has"),
        (&["--memory", "9999t"], "more than the machine has"),
        (&["--pids", "0"], "--pids: \"0\" is not a number of processes from 1 to 4194304"),
        (&["--timeout", "1y"], "--timeout: \"1y\" is not a time"),
        (&["--profile", "moderat"], "did you mean \"moderate\"?"),
        (&["--network", "some"], "--network: \"some\" is not none, full or allow=HOST,..."),
        (&["--user", "70000"], "up to 65535"),
        (&["--image", "Alpine"], "rootfs:DIR, a module's file such as app.wasm or the name of an "),
        (&["--image", "./rootfs"], "--image: \"./rootfs\" is a path: write rootfs:DIR"),
        (&["--image", "hots", "--pull", "never"], "did you mean host?"),
        (&["--image", "ghcr.io/x/y:1", "--pull", "never"], "the image ghcr.io/x/y:1 is not here"),
        (&["--build", "--image", "auto"], "an image is named or built, not both"),
        (&["--build"], "work has no Dockerfile to build an image from"),
        (&["--build=gone"], "the folder to build"),
        (&["--build="], "--build: \"\" is not DIR, a folder with a Dockerfile"),
        (&["--pull", "allways"], "did you mean \"always\"?"),
        (&["--image", "rootfs:./gone"], "the image"),
        (&["--image", "gone.wasm"], "work/gone.wasm can't be used: No such file"),
        (&["--image", "module:."], "the module"),
        (&["--image", "module:"], "--image: \"module:\" is not "),
        (&["--invoke", "add"], "the function \"add\" can't be called: only a WebAssembly module"),
        (&["--invoke", ""], "--invoke: \"\" is not a name"),
        (&["-v", "gone:/x"], "the volume"),
        (&["-v", ".:x"], "--volume: \"x\" is not absolute"),
        (&["-v", ".:/a:b:c"], "of paths without a colon"),
        (&["-v", ".:/proc"], "nothing can be mounted at /proc"),
        (&["-w", "x"], "--workdir: \"x\" is not absolute"),
        (&["-e", "=x"], "--env: the name of a variable is missing"),
        (&["--env-file", "gone"], "gone can't be read: No such file"),
        (&["--project=/"], "the project can't be /"),
        (&["--project=/tmp:ro"], "the project can't be /tmp"),
        (&["--project=:x"], "--project: \"x\" is not one of ro, rw, cow"),
        (&["-B", "banana"], "there is no backend \"banana\""),
        (&["--report", "gone/report"], "the report can't be written to gone/report: No such file"),
    ] {
        let said = scratch.failure(&[&["run"], args, &["--", "true"]].concat());
        assert!(said.contains(part), "{args:?}: {said}");
        assert!(said.starts_with("error: "), "{args:?}: {said}");
    }
    let said = scratch.failure(&["run", "--project", "-v", &format!(".:{project}"), "--", "true"]);
    assert!(said.contains("two volumes have the target"), "{said}");
}

#[test]
fn a_module_is_refused_where_only_programs_run() {
    const NOT_HERE: &str = "the image a:latest is not here";
    let scratch = Scratch::new("modules");
    let module = scratch.file("app.wasm", "\0asm");
    let refused = format!(
        "error: the native backend can't run a WebAssembly module: {}\n\
         hint: choose a backend that `agentkernel doctor` lists with image module\n",
        module.display()
    );
    for args in [
        &["run", "-B", "native", "--image", "app.wasm"][..],
        &["run", "-B", "native", "--image", "module:./app.wasm", "--", "a", "b"],
        &["run", "-B", "native", "--invoke", "add", "--image", "app.wasm", "1", "2"],
        &["run", "-B", "native", "--keep", "--image", "app.wasm"],
        &["create", "-B", "native", "--image", "app.wasm", "web"],
        &["pool", "set", "quick", "1", "-B", "native", "--image", "app.wasm"],
    ] {
        assert_eq!(scratch.failure(args), refused, "{args:?}");
    }
    let mut command = scratch.agentkernel();
    let by_variable = command.env("AGENTKERNEL_IMAGE", "app.wasm").args(["run", "-B", "native"]);
    assert_eq!(failure(by_variable), refused);
    fs::create_dir(scratch.0.join("work/below.wasm")).unwrap();
    for (args, error, hint) in [
        (&["run", "-B", "wasm"][..], "runs WebAssembly modules, and none was named", "app.wasm"),
        (&["run", "-B", "wasm", "--image", "auto", "--", "a"], "and none was named", "app.wasm"),
        (&["create", "-B", "wasm", "web"], "and none was named", "--image app.wasm"),
        (&["run", "-B", "wasm", "gone", "--", "a"], "work/gone can't be used: No such", "path"),
        (&["run", "-B", "wasm", "below.wasm"], "work/below.wasm is not a file", "app.wasm"),
        (&["run", "-B", "wasm", "--image", "host", "ls"], "and not the image host", "a module"),
        (&["run", "-B", "wasm", "--pull", "never", "--image", "a", "ls"], NOT_HERE, "image pull"),
        (&["run", "-B", "wasm", "--pull", "never", "--invoke", "f", "--image", "a"], NOT_HERE, ""),
        // Who runs modules is chosen by the image.
        (&["run", "--image", "app.wasm", "-p", "80"], "enforce: ports", "doctor"),
    ] {
        let said = scratch.failure(args);
        let (first, second) = said.split_once('\n').unwrap();
        assert!(first.starts_with("error: ") && first.contains(error), "{args:?}: {said}");
        assert!(second.starts_with("hint: ") && second.contains(hint), "{args:?}: {said}");
    }
    // A file's is relative to that file.
    scratch.file("agentkernel.toml", "image = \"app.wasm\"\nbackend = \"native\"");
    let below = scratch.0.join("work/below");
    fs::create_dir(&below).unwrap();
    assert_eq!(failure(scratch.agentkernel().current_dir(&below).arg("run")), refused);
    fs::write(scratch.0.join("other.wasm"), "").unwrap();
    scratch.file("agentkernel.toml", "image = \"../other.wasm\"");
    let said = scratch.failure(&["run"]);
    assert!(said.contains("asks by `image` for more than its project"), "{said}");
}

#[test]
fn limits_are_held_against_the_machine_that_is_to_keep_them() {
    const MORE: &str = "--cpus 1000 is more than the machine has";
    let scratch = Scratch::new("limits");
    let said = scratch.failure(&["run", "--cpus", "1000", "--", "true"]);
    assert!(said.contains(MORE), "{said}");
    // What a cluster's nodes have, nobody here knows.
    for cluster in ["kubernetes", "nomad"] {
        let mut command = scratch.agentkernel();
        command.env("NOMAD_ADDR", "http://127.0.0.1:1").env("KUBECONFIG", "/nowhere");
        let said = failure(command.args(["run", "-B", cluster, "--cpus", "1000", "--", "true"]));
        assert!(!said.contains(MORE), "{cluster}: {said}");
    }
}

#[test]
fn a_settings_file_is_wrong_by_line_and_column() {
    let scratch = Scratch::new("file");
    let path = scratch.file("agentkernel.toml", "cpus = 1\nmemroy = \"1g\"\n");
    let said = scratch.failure(&["run", "true"]);
    let expected = format!(
        "error: {}:2:1: unknown key `memroy`\nhint: did you mean `memory`?\n",
        path.display()
    );
    assert_eq!(said, expected);
    scratch.file("agentkernel.toml", "memory = \"12x\"");
    let said = scratch.failure(&["run", "true"]);
    assert!(said.contains("agentkernel.toml:1:10: \"12x\" is not a size"), "{said}");
    scratch.file("agentkernel.toml", "memory = ");
    let said = scratch.failure(&["run", "true"]);
    assert!(said.contains("agentkernel.toml:1:10: "), "{said}");
}

#[test]
fn a_settings_file_is_not_looked_at_if_not_wanted() {
    let scratch = Scratch::new("no-config");
    scratch.file("agentkernel.toml", "banana = 1");
    let said = scratch.failure(&["run", "--no-config", "-B", "banana", "true"]);
    assert!(said.contains("there is no backend \"banana\""), "{said}");
}

#[test]
fn a_settings_file_of_somebody_elses_is_refused() {
    let scratch = Scratch::new("owner");
    let path = scratch.file("agentkernel.toml", "network = \"full\"");
    if let Err(err) = std::os::unix::fs::chown(&path, Some(4321), None) {
        return eprintln!("skipped: only root can give a file away ({err})");
    }
    let said = scratch.failure(&["run", "true"]);
    assert!(said.contains("agentkernel.toml belongs to user 4321, not to you"), "{said}");
    assert!(said.contains("hint: ") && said.contains("--no-config"), "{said}");
}

#[test]
fn flags_go_over_variables_over_the_project_over_the_user() {
    let scratch = Scratch::new("precedence");
    let backend = |command: &mut Command| {
        let said = failure(command);
        let quoted = said.split('"').nth(1).map(String::from);
        quoted.unwrap_or_else(|| panic!("no backend in {said}"))
    };
    let run = || {
        let mut command = scratch.agentkernel();
        command.arg("run");
        command
    };
    let user = scratch.0.join("home/.config/agentkernel");
    fs::create_dir_all(&user).unwrap();
    fs::write(user.join("config.toml"), "backend = \"of-user\"").unwrap();
    assert_eq!(backend(run().arg("true")), "of-user");
    scratch.file("agentkernel.toml", "backend = \"of-project\"");
    assert_eq!(backend(run().arg("true")), "of-project");
    assert_eq!(backend(run().env("AGENTKERNEL_BACKEND", "of-env").arg("true")), "of-env");
    let by_flag = backend(run().env("AGENTKERNEL_BACKEND", "of-env").args(["-B", "x", "true"]));
    assert_eq!(by_flag, "x");
}

#[test]
fn unknown_and_wrong_variables_are_errors() {
    let scratch = Scratch::new("variables");
    let with = |name: &str, value: &str| {
        failure(scratch.agentkernel().env(name, value).args(["run", "true"]))
    };
    let expected = "error: unknown variable AGENTKERNEL_MEMROY\n\
                    hint: did you mean AGENTKERNEL_MEMORY?\n";
    assert_eq!(with("AGENTKERNEL_MEMROY", "1g"), expected);
    let said = with("AGENTKERNEL_MEMORY", "12x");
    assert!(said.starts_with("error: AGENTKERNEL_MEMORY: \"12x\" is not a size"), "{said}");
}

#[test]
fn errors_are_one_line_of_json_if_asked_for() {
    let scratch = Scratch::new("json");
    for args in [&["run", "--json", "--banana"][..], &["run", "--json", "--cpus", "1000", "true"]] {
        let said = scratch.failure(args);
        assert_eq!(said.lines().count(), 1, "{said}");
        let json: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["error"]["exit_code"], 125);
        assert!(json["error"]["message"].is_string() && json["error"]["hint"].is_string());
    }
}

#[test]
fn the_doctor_answers_programs_in_one_line_of_json() {
    let output = Scratch::new("doctor").output(&["doctor", "--json"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["version"], 1);
    let backends = json["backends"].as_array().unwrap();
    let ready = backends.iter().any(|backend| backend["ready"] == true);
    assert_eq!(output.status.code(), Some(i32::from(!ready)));
}

#[test]
fn bytes_that_are_not_utf8_are_reported_as_such() {
    let scratch = Scratch::new("bytes");
    for words in [
        [OsStr::new("run"), OsStr::new("--backend"), OsStr::from_bytes(b"\xff"), OsStr::new("x")],
        [OsStr::new("run"), OsStr::from_bytes(b"--\xff"), OsStr::new("x"), OsStr::new("x")],
        [OsStr::from_bytes(b"\xff"), OsStr::new("x"), OsStr::new("x"), OsStr::new("x")],
    ] {
        let said = failure(scratch.agentkernel().args(words));
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let scratch = Scratch::new("pipe");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = scratch.agentkernel().arg("help").stdout(writer).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = scratch.agentkernel().arg("rum").stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(125));
}

#[test]
fn closed_streams_are_no_reason_to_panic() {
    let scratch = Scratch::new("closed");
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_agentkernel")]);
        shell.current_dir(&scratch.0).output().unwrap()
    };
    assert_eq!(run("\"$0\" --version >&- 2>&-").status.code(), Some(0));
    assert_eq!(run("\"$0\" rum >&- 2>&- <&-").status.code(), Some(125));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Scratch::new("full").agentkernel().arg("help").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: standard output can't be written: No space"), "{said}");
}

/// What lies below a folder, itself aside.
fn everything_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(everything_below(&path));
        }
        all.push(path);
    }
    all
}

#[test]
fn who_only_looks_makes_no_files() {
    let scratch = Scratch::new("look");
    let before = everything_below(&scratch.0);
    for (args, said) in [
        (&["ps"][..], "NAME   ID   BACKEND   STATE   AGE\n"),
        (&["list", "-a", "--filter", "label=a=b"], "NAME   ID   BACKEND   STATE   AGE\n"),
        (&["ps", "-aq"], ""),
        (&["ps", "--json"], "{\"version\":1,\"sandboxes\":[]}\n"),
        (&["audit"], ""),
        (&["audit", "--json", "--since", "1h", "--kind", "create", "--sandbox", "a"], ""),
        (&["prune"], ""),
        (&["prune", "-f"], ""),
    ] {
        assert_eq!(stdout(&scratch.output(args)), said, "{args:?}");
    }
    assert!(stdout(&scratch.output(&["audit", "verify"])).starts_with("entries     0"));
    for verb in ["start", "stop", "rm", "remove", "pause", "unpause", "wait"] {
        let said = scratch.failure(&[verb, "web", "db"]);
        for name in ["web", "db"] {
            assert!(said.contains(&format!("there is no sandbox \"{name}\"\n")), "{verb}: {said}");
        }
    }
    for args in [
        &["ps", "web"][..],
        &["inspect", "web"],
        &["logs", "-f", "web"],
        &["attach", "web", "1"],
        &["kill", "web"],
        &["rename", "web", "db"],
        &["exec", "web", "true"],
        &["exec", "-d", "web", "--", "true"],
    ] {
        let said = scratch.failure(args);
        let expected = "error: there is no sandbox \"web\"\nhint: there are none\n";
        assert_eq!(said, expected, "{args:?}");
    }
    assert_eq!(everything_below(&scratch.0), before);
}

#[test]
fn names_that_are_none_are_refused_with_the_rule() {
    let scratch = Scratch::new("names");
    let long = "x".repeat(10_000);
    for name in ["..", "a/b", "", "a b", "a\n", "caf\u{e9}", "\u{430}dmin", "_a", &long] {
        for args in [
            &["create", "--", name][..],
            &["create", "--name", name],
            &["stop", "--", name],
            &["exec", "--", name, "true"],
            &["rename", "--", "a", name],
            &["ps", "--", name],
        ] {
            let said = scratch.failure(args);
            assert!(said.contains("is not a valid name") && said.contains("1 to 64"), "{said}");
            assert!(said.len() < 400 && said.lines().count() == 2, "{said}");
        }
    }
    // One that is wrong stops a verb before it does anything to the others.
    let said = scratch.failure(&["rm", "web", "a/b"]);
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn the_words_of_living_sandboxes_are_checked() {
    let scratch = Scratch::new("words");
    for (args, part) in [
        (&["start"][..], "no sandbox was named"),
        (&["exec"], "no sandbox was named"),
        // Whether there must be one depends on the sandbox.
        (&["exec", "web"], "there is no sandbox \"web\""),
        (&["exec", "--invoke", "", "web"], "--invoke: \"\" is not a name"),
        (&["create", "--invoke", "add"], "create has no flag --invoke"),
        (&["exec", "-dt", "web", "true"], "--tty means nothing"),
        (&["exec", "-d", "--report", "r", "web", "true"], "--report means nothing"),
        (&["exec", "-e", "=v", "web", "true"], "--env: the name"),
        (&["exec", "--memory", "1g", "web", "true"], "exec has no flag --memory"),
        (&["exec", "--env-file", "gone", "web", "true"], "gone can't be read"),
        (&["create", "a", "b"], "create doesn't take \"b\""),
        (&["create", "--name", "a", "b"], "create doesn't take \"b\""),
        (&["create", "--label", "a"], "--label: \"a\" is not a label"),
        (&["create", "--ttl", "1y"], "--ttl: \"1y\" is not a time"),
        (&["create", "--timeout", "1s"], "create has no flag --timeout"),
        (&["create", "-B", "banana"], "there is no backend \"banana\""),
        (&["kill", "-s", "FOO", "web"], "--signal: \"FOO\" is not a signal"),
        (&["kill", "-s", "65", "web"], "--signal: \"65\" is not a signal"),
        (&["kill", "web", "x"], "is not the number of a background command"),
        (&["logs", "web", "0"], "is not the number of a background command"),
        (&["logs", "web", "1", "2"], "logs doesn't take \"2\""),
        (&["rename", "web"], "no new name was given"),
        (&["stop", "-t", "x", "web"], "--time: \"x\" is not a time"),
        (&["ps", "--filter", "a=b"], "--filter: \"a=b\" is not a filter"),
        (&["ps", "a", "b"], "ps doesn't take \"b\""),
        (&["audit", "x"], "audit doesn't take \"x\""),
        (&["audit", "--kind", "comand"], "did you mean \"command\"?"),
        (&["audit", "--since", "x"], "--since: \"x\" is not a time"),
        (&["events", "x"], "events doesn't take \"x\""),
        (&["prune", "x"], "prune doesn't take \"x\""),
    ] {
        let said = scratch.failure(args);
        assert!(said.contains(part), "{args:?}: {said}");
        assert!(said.starts_with("error: "), "{args:?}: {said}");
    }
}

#[test]
fn an_audit_log_that_was_changed_is_told_by_the_exit_status() {
    let scratch = Scratch::new("audit");
    assert_eq!(stdout(&scratch.output(&["create", "web"])), "web\n");
    let taken = scratch.failure(&["create", "web"]);
    assert!(taken.starts_with("error: there is already a sandbox named web\n"), "{taken}");
    assert_eq!(stdout(&scratch.output(&["rm", "web"])), "web\n");
    assert!(stdout(&scratch.output(&["audit"])).contains("  remove    web "));
    stdout(&scratch.output(&["audit", "verify"]));
    let path = scratch.0.join("home/.local/state/agentkernel/audit.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"web\"", "\"wab\"", 1)).unwrap();
    let output = scratch.output(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: the audit log is broken at line 1: "), "{said}");
    let output = scratch.output(&["audit", "verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["verified"], &json["line"]), (&false.into(), &1.into()));
}

/// Whether `shell` takes the script that is made for it; `None` if the machine doesn't have it.
fn accepts(shell: &str, flag: &str) -> Option<bool> {
    let output = Scratch::new(shell).output(&["completions", shell]);
    let script = stdout(&output);
    let mut checker = Command::new(shell);
    checker.arg(flag).stdin(Stdio::piped()).stderr(Stdio::inherit());
    let mut checker = checker.spawn().ok()?;
    checker.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    Some(checker.wait().unwrap().success())
}

#[test]
fn shells_take_their_completions() {
    assert_eq!(accepts("bash", "-n"), Some(true));
    for shell in ["zsh", "fish"] {
        match accepts(shell, "-n") {
            None => eprintln!("skipped: there is no {shell} here to check its completions"),
            taken => assert_eq!(taken, Some(true), "{shell}"),
        }
    }
}

#[test]
fn bash_completes_verbs_flags_and_values() {
    let scratch = Scratch::new("complete");
    let script = scratch.file("script", stdout(&scratch.output(&["completions", "bash"])));
    for (words, expected) in [
        ("agentkernel ru", "run"),
        ("agentkernel run --mem", "--memory"),
        ("agentkernel run --profile perm", "permissive"),
        ("agentkernel completions fi", "fish"),
        ("agentkernel doctor --j", "--json"),
        ("agentkernel run --proj", "--project"),
        ("agentkernel exec --inv", "--invoke"),
    ] {
        let program = "source \"$0\"; read -ra COMP_WORDS <<< \"$1\"; \
                       COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _agentkernel; echo \"${COMPREPLY[*]}\"";
        let mut bash = Command::new("bash");
        bash.args([OsStr::new("-c"), program.as_ref(), script.as_ref(), words.as_ref()]);
        let output = bash.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), expected, "{words}");
    }
}

#[test]
fn the_documentation_mentions_every_flag_key_and_variable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let docs = fs::read_to_string(path).unwrap();
    let help = Scratch::new("docs").output(&["help", "run"]);
    let mut flags = 0;
    for line in stdout(&help).lines().filter(|line| line.starts_with("  ")) {
        let Some(at) = line.find("--").filter(|at| *at < 8) else {
            continue;
        };
        let flag = line[at..].split([' ', '[']).next().unwrap();
        assert!(docs.contains(&format!("`{flag}")), "{flag} is not documented");
        flags += 1;
    }
    assert!(flags > 20, "only {flags} flags were found in the help");
    for key in agentkernel_wire::KEYS {
        assert!(docs.contains(&format!("`{key}`")), "the key {key} is not documented");
    }
    for name in agentkernel_wire::VARIABLES {
        let name = format!("`{}{name}`", agentkernel_wire::PREFIX);
        assert!(docs.contains(&name), "{name} is not documented");
    }
}
