//! Modules as commands, whatever runs them. Each runs in a process that was forked from one that was
//! prepared, as in a place.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use agentkernel_guest::{Module, Runner};
use agentkernel_protocol::Status;
use agentkernel_sys::process::{self, Fork, Namespaces};
use agentkernel_sys::{descriptor, signal};
use agentkernel_wasm_engine::ModuleError;

/// The first word of who is to run a module.
const CHILD: &str = "--run";

type Test = fn(&Scratch);

/// What runs modules.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    pub runner: &'static dyn Runner,
    pub compile: fn(&[u8]) -> Result<Vec<u8>, ModuleError>,
    /// What there is, of what not everybody has.
    pub has: &'static [Needs],
}

/// What not every subject has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Components,
    Files,
    Floats,
}

const TESTS: &[(&str, Option<Needs>, Test)] = &[
    ("a command writes its output", None, hello),
    ("a component does as well", Some(Needs::Components), component),
    ("arguments are exact", None, arguments),
    ("only variables that were asked for are seen", None, variables),
    ("input is copied to the end, byte for byte", None, copy),
    ("exit statuses are exact, and one that is none is told", None, exits),
    ("each trap has its own ending and says so", None, traps),
    ("growth is refused at the limit", None, growth),
    ("who traps without memory has run out of it", None, out_of_memory),
    ("a function's results are printed", None, invoke),
    ("a call that fits no function is told and ends with 2", None, misuse),
    ("a reader that is gone is an error to the module", None, broken_pipe),
    ("a wait is for the first of a time and input", None, waits),
    ("random numbers differ between forks", None, random),
    ("files of the directory can be reached", Some(Needs::Files), files),
    ("what is no code can't be started", None, no_code),
    ("words that are no text are told", None, no_text),
    ("a signal ends a loop", None, killed),
    ("a function of decimal numbers does as well", Some(Needs::Floats), floats),
];

/// `reason` is why there is nothing to test, if there is.
pub fn main(subject: Subject, reason: impl FnOnce() -> Option<String>) {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == CHILD) {
        child(subject.runner);
    }
    if let Some(reason) = reason() {
        println!("skipped: {reason}");
        return;
    }
    let path = std::env::temp_dir().join(format!("wasm-{}", std::process::id()));
    let scratch = Scratch(path, subject);
    std::fs::create_dir(&scratch.0).unwrap();
    let (mut failed, mut skipped) = (0, 0);
    for (name, needs, test) in TESTS {
        if needs.is_some_and(|needs| !subject.has.contains(&needs)) {
            println!("skipped {name}: there is none of {needs:?}");
            skipped += 1;
            continue;
        }
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| test(&scratch)));
        println!("{} {name}", if result.is_ok() { "ok    " } else { "FAILED" });
        failed += usize::from(result.is_err());
    }
    std::fs::remove_dir_all(&scratch.0).unwrap();
    println!("{} passed, {failed} failed, {skipped} skipped", TESTS.len() - failed - skipped);
    std::process::exit(i32::from(failed > 0));
}

/// Runs a module as an agent has it run: the words are the code's path, the function's name and the memory,
/// both of which may be empty, how many variables there are, these, and the arguments.
fn child(runner: &dyn Runner) -> ! {
    use std::os::unix::ffi::OsStringExt;
    let mut words = std::env::args_os().skip(2);
    let mut text = || words.next().unwrap().into_string().unwrap();
    let (path, function, memory) = (text(), text(), text());
    let count: usize = text().parse().unwrap();
    let mut words = words.map(|word| CString::new(word.into_vec()).unwrap());
    let environment: Vec<_> = words.by_ref().take(count).collect();
    let argv: Vec<_> = words.collect();
    runner.prepare(memory.parse().ok()).unwrap();
    let code = File::open(path).unwrap();
    let Fork::Parent(forked) = process::fork(Namespaces::NONE, None).unwrap() else {
        let function = (!function.is_empty()).then(|| CString::new(function).unwrap());
        let module = Module {
            code: code.as_fd(),
            function: function.as_deref(),
            argv: &argv,
            environment: &environment,
            memory: memory.parse().ok(),
            network: false,
        };
        signal::reset_to_default(&[
            signal::SIGSEGV,
            signal::SIGBUS,
            signal::SIGILL,
            signal::SIGFPE,
        ])
        .unwrap();
        // As agents do: a process may know early that it is to run a module, and it keeps no more
        // open than it must.
        let kept = runner.needs().unwrap_or(-1);
        descriptor::close_all_but(&mut [0, 1, 2, code.as_raw_fd(), kept]).unwrap();
        if module.function.is_none() {
            runner.stand_by(module.memory);
        }
        let mut has_begun = false;
        match runner.run(module, &mut || has_begun = true) {
            Ok(Status::Exited(code)) if has_begun => process::exit_now(i32::from(code)),
            Ok(Status::Signaled(signal)) if has_begun => signal::die_of(i32::from(signal)),
            Ok(_) => process::exit_now(100),
            Err(error) => process::exit_now(126 + i32::from(error.raw_os_error() != Some(8))),
        }
    };
    match forked.wait().unwrap().status() {
        Ok(status) => process::exit_now(i32::from(status)),
        Err(signal) => signal::die_of(i32::from(signal)),
    }
}

struct Scratch(PathBuf, Subject);

/// One run of a module.
struct Run<'a> {
    code: PathBuf,
    function: &'a str,
    memory: Option<u64>,
    variables: &'a [&'a str],
    arguments: &'a [&'a str],
    directory: &'a Path,
}

impl Scratch {
    fn module(&self, name: &str) -> Run<'_> {
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasm-engine/tests/modules");
        let source = std::fs::read(modules.join(name)).unwrap();
        let code = self.0.join(name);
        std::fs::write(&code, (self.1.compile)(&source).unwrap()).unwrap();
        self.code(code)
    }

    fn code(&self, code: PathBuf) -> Run<'_> {
        Run {
            code,
            function: "",
            memory: None,
            variables: &[],
            arguments: &["module.wasm"],
            directory: &self.0,
        }
    }
}

impl Run<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let memory = self.memory.map(|bytes| bytes.to_string()).unwrap_or_default();
        command.arg(CHILD).arg(&self.code).args([self.function, &memory]);
        command.arg(self.variables.len().to_string()).args(self.variables).args(self.arguments);
        command.current_dir(self.directory).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn output(&self) -> Output {
        self.command().output().unwrap()
    }

    fn prints(&self, expected: &str) {
        let output = self.output();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(output.status.code(), Some(0));
    }

    /// What it says on standard error, where it ends like this.
    fn fails(&self, code: Option<i32>, signal: Option<i32>) -> String {
        let output = self.output();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.status.signal()), (code, signal), "{errors}");
        errors
    }
}

fn hello(scratch: &Scratch) {
    scratch.module("hello.wat").prints("hello\n");
}

fn component(scratch: &Scratch) {
    scratch.module("component.wat").prints("hello from a component\n");
}

fn arguments(scratch: &Scratch) {
    let arguments = &["module.wasm", "", "two words", "--", "grüße"];
    let run = Run { arguments, ..scratch.module("arguments.wat") };
    run.prints("module.wasm\0\0two words\0--\0grüße\0");
}

fn variables(scratch: &Scratch) {
    Run { ..scratch.module("variables.wat") }.prints("");
    let run = Run { variables: &["A=1", "B=", "C=x=y"], ..scratch.module("variables.wat") };
    run.prints("A=1\0B=\0C=x=y\0");
}

fn copy(scratch: &Scratch) {
    let bytes: Vec<u8> =
        (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut child = scratch.module("copy.wat").command().stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let copied = std::thread::scope(|scope| {
        scope.spawn(|| {
            input.write_all(&bytes).unwrap();
            drop(input);
        });
        child.wait_with_output().unwrap()
    });
    assert!(copied.status.success());
    assert!(copied.stdout == bytes);
}

fn exits(scratch: &Scratch) {
    let exit = |word: &str, expected| {
        let arguments = &["module.wasm", word];
        Run { arguments, ..scratch.module("exit.wat") }.fails(Some(expected), None)
    };
    for status in [0, 7, 125, 126, 255] {
        assert_eq!(exit(&status.to_string(), status), "");
    }
    assert!(exit("256", 255).contains("exited with 256"));
    assert!(exit("512", 255).contains("exited with 512"));
}

fn traps(scratch: &Scratch) {
    for (function, signal, words) in [
        ("divide", 8, "trap: integer divide by zero\n"),
        ("overflow", 8, "trap: integer overflow\n"),
        ("memory-bounds", 11, "trap: out of bounds memory access\n"),
        ("table-bounds", 11, "trap: undefined element: out of bounds table access\n"),
        ("recurse", 11, "trap: call stack exhausted\n"),
        ("unreachable", 6, "trap: wasm `unreachable` instruction executed\n"),
        ("null-call", 6, "trap: uninitialized element\n"),
        ("wrong-call", 6, "trap: indirect call type mismatch\n"),
    ] {
        let errors = Run { function, ..scratch.module("traps.wat") }.fails(None, Some(signal));
        assert!(errors.starts_with(words), "{errors}");
        assert!(errors.lines().nth(1).is_some_and(|line| line.contains("0: ")), "{errors}");
    }
}

fn growth(scratch: &Scratch) {
    let run = Run { function: "grow", memory: Some(32 << 20), ..scratch.module("traps.wat") };
    let output = run.output();
    assert!(output.status.success());
    let pages: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(pages <= 512 && pages > 480, "{pages}");
}

fn out_of_memory(scratch: &Scratch) {
    let traps = || scratch.module("traps.wat");
    let run = Run { function: "grow-and-trap", memory: Some(32 << 20), ..traps() };
    let errors = run.fails(None, Some(9));
    assert!(errors.contains("out of memory"), "{errors}");
    let run = Run { function: "add", memory: Some(1000), arguments: &["m", "1", "2"], ..traps() };
    let errors = run.fails(None, Some(9));
    assert!(errors.contains("out of memory"), "{errors}");
}

fn invoke(scratch: &Scratch) {
    let traps = || scratch.module("traps.wat");
    Run { function: "add", arguments: &["m", "2", "3"], ..traps() }.prints("5\n");
    Run { function: "add", arguments: &["m", "-7", "3"], ..traps() }.prints("-4\n");
}

fn floats(scratch: &Scratch) {
    let run = Run { function: "convert", ..scratch.module("traps.wat") };
    let errors = run.fails(None, Some(8));
    assert!(errors.starts_with("trap: invalid conversion to integer\n"), "{errors}");
    let arguments = &["m", "-7", "9007199254740993", "0.5", "-0.25"];
    let run = Run { function: "all", arguments, ..scratch.module("traps.wat") };
    run.prints("-7\n9007199254740993\n0.5\n-0.25\n");
}

fn misuse(scratch: &Scratch) {
    for (function, arguments, words) in [
        ("add", &["m", "1"][..], "error: the function `add` takes 2 (i32, i32), not 1\n"),
        ("add", &["m", "1", "x"], "error: argument 2 of `add` must be i32: \"x\"\n"),
        ("sub", &["m"], "error: the module exports no function `sub`; it exports `divide`,"),
        ("", &["m"], "error: the module has no `_start`, so it is no command; it exports"),
    ] {
        let run = Run { function, arguments, ..scratch.module("traps.wat") };
        let errors = run.fails(Some(2), None);
        assert!(errors.starts_with(words), "{errors}");
    }
    if scratch.1.has.contains(&Needs::Components) {
        let run = Run { function: "run", ..scratch.module("component.wat") };
        assert!(run.fails(Some(2), None).contains("can't be called by name"));
    }
}

fn broken_pipe(scratch: &Scratch) {
    let mut child = scratch.module("shout.wat").command().spawn().unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    // EPIPE is number 64 of WASI's errors.
    assert_eq!(child.wait().unwrap().code(), Some(64));
}

fn waits(scratch: &Scratch) {
    let sleep = || scratch.module("sleep.wat");
    let mut command = Run { function: "first", arguments: &["m", "50"], ..sleep() }.command();
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    let mut held = child;
    let input = held.stdin.take();
    let output = held.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"0\n");
    assert!(begin.elapsed() >= Duration::from_millis(50));
    drop(input);

    let mut command = Run { function: "first", arguments: &["m", "60000"], ..sleep() }.command();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"1\n");
}

fn random(scratch: &Scratch) {
    let run = scratch.module("random.wat");
    let (one, other) = (run.output().stdout, run.output().stdout);
    assert_eq!(one.len(), 16);
    assert_ne!(one, other);
}

fn files(scratch: &Scratch) {
    std::fs::write(scratch.0.join("note"), "what a note says").unwrap();
    let run = scratch.module("read.wat");
    run.prints("what a note says");
    let absolute = scratch.0.join("note");
    let arguments = &["m", absolute.to_str().unwrap()];
    Run { function: "", arguments, ..scratch.module("read.wat") }.prints("what a note says");
}

fn no_code(scratch: &Scratch) {
    let path = scratch.0.join("none");
    for bytes in [&b""[..], b"\0asm\x01\0\0\0", b"\x7fELF"] {
        std::fs::write(&path, bytes).unwrap();
        scratch.code(path.clone()).fails(Some(126), None);
    }
}

fn no_text(scratch: &Scratch) {
    use std::os::unix::ffi::OsStrExt;
    let mut command = scratch.module("hello.wat").command();
    let output = command.arg(std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("argument 1 is not UTF-8"));
}

fn killed(scratch: &Scratch) {
    let mut command = Run { function: "loop", ..scratch.module("traps.wat") }.command();
    // All of the group: who has been forked as well.
    let mut child =
        std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn().unwrap();
    let group = rustix::process::Pid::from_child(&child);
    std::thread::park_timeout(Duration::from_millis(200));
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}
