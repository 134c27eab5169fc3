//! Calls in this process.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::thread;
use std::time::{Duration, Instant};

use agentkernel_wasm_engine::{Call, Called, End, Host, Loaded, compile};

const TRAPS: &str = include_str!("modules/traps.wat");
const MEBIBYTE: u64 = 1 << 20;

fn load<'a>(host: &'a Host, text: &str) -> Loaded<'a> {
    host.load(&compile(text.as_bytes()).unwrap()).unwrap()
}

fn command<'a>() -> Call<'a> {
    Call { memory: 16 * MEBIBYTE, ..Call::default() }
}

fn function<'a>(name: &'a str, arguments: &'a [&'a str]) -> Call<'a> {
    Call { function: Some(name), arguments, ..command() }
}

fn text(called: &Called) -> &str {
    std::str::from_utf8(&called.output.bytes).unwrap()
}

#[test]
fn a_command_runs_with_its_input_arguments_and_variables() {
    let host = Host::new().unwrap();
    let called = load(&host, include_str!("modules/hello.wat")).call(&command());
    assert_eq!((text(&called), &called.end), ("hello\n", &End::Exited(0)));

    let arguments = load(&host, include_str!("modules/arguments.wat"));
    let called = arguments.call(&Call { arguments: &["", "two words", "grüße"], ..command() });
    assert_eq!(text(&called), "module\0\0two words\0grüße\0");

    let variables = load(&host, include_str!("modules/variables.wat"));
    let called = variables.call(&Call { environment: &[("A", "1"), ("B", "")], ..command() });
    assert_eq!(text(&called), "A=1\0B=\0");

    let copy = load(&host, include_str!("modules/copy.wat"));
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let called = copy.call(&Call { input: input.clone().into(), ..command() });
    assert!(called.output.bytes == input);

    let called = load(&host, include_str!("modules/component.wat")).call(&command());
    assert_eq!((text(&called), &called.end), ("hello from a component\n", &End::Exited(0)));
}

#[test]
fn a_functions_results_are_its_output() {
    let host = Host::new().unwrap();
    let traps = load(&host, TRAPS);
    assert_eq!(text(&traps.call(&function("add", &["2", "3"]))), "5\n");
    let called = traps.call(&function("all", &["-1", "9007199254740993", "0.5", "1e300"]));
    assert_eq!(text(&called).lines().count(), 4);
    assert!(text(&called).starts_with("-1\n9007199254740993\n0.5\n1000000"));
}

#[test]
fn a_call_that_fits_no_function_is_misuse() {
    let host = Host::new().unwrap();
    let traps = load(&host, TRAPS);
    for (call, expected) in [
        (function("add", &["1"]), "takes 2 (i32, i32), not 1"),
        (function("unreachable", &["1"]), "takes no arguments, not 1"),
        (function("add", &["1", "two"]), "argument 2 of `add` must be i32: \"two\""),
        (function("add", &["1", "2147483648"]), "must be i32"),
        (function("add", &["1", "1.5"]), "must be i32"),
        (function("vector", &["1"]), "v128, which words can't give"),
        (function("sub", &["1", "2"]), "no function `sub`"),
        (function("memory", &[]), "no function `memory`"),
        (command(), "no `_start`"),
    ] {
        let End::Misused(why) = traps.call(&call).end else { panic!("{call:?}") };
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn each_way_to_go_wrong_has_its_own_end() {
    let host = Host::new().unwrap();
    let traps = load(&host, TRAPS);
    for (name, expected, words) in [
        ("divide", 8, "divide by zero"),
        ("overflow", 8, "integer overflow"),
        ("convert", 8, "conversion to integer"),
        ("memory-bounds", 11, "out of bounds memory access"),
        ("table-bounds", 11, "out of bounds table access"),
        ("recurse", 11, "call stack exhausted"),
        ("unreachable", 6, "unreachable"),
        ("null-call", 6, "uninitialized element"),
        ("wrong-call", 6, "type mismatch"),
    ] {
        let End::Trapped { signal, reason, backtrace } = traps.call(&function(name, &[])).end
        else {
            panic!("{name}")
        };
        assert_eq!(signal, expected, "{name}");
        assert!(reason.contains(words), "{name}: {reason}");
        assert!(backtrace.contains("0: "), "{name}: {backtrace}");
    }
}

#[test]
fn exit_statuses_are_exact() {
    let host = Host::new().unwrap();
    let exit = load(&host, include_str!("modules/exit.wat"));
    for (word, expected) in [("0", 0), ("7", 7), ("126", 126), ("255", 255), ("256", 255)] {
        let called = exit.call(&Call { arguments: &[word], ..command() });
        assert_eq!(called.end, End::Exited(expected), "{word}");
        let errors = String::from_utf8(called.errors.bytes).unwrap();
        assert_eq!(errors.contains("exited with 256"), word == "256", "{errors}");
    }
}

#[test]
fn a_hundred_calls_at_once_each_see_only_their_own() {
    let host = Host::new().unwrap();
    let (copy, secret) = (
        load(&host, include_str!("modules/copy.wat")),
        load(&host, include_str!("modules/secret.wat")),
    );
    thread::scope(|scope| {
        for n in 1..=100_i32 {
            let (copy, secret) = (&copy, &secret);
            scope.spawn(move || {
                for round in 0..10 {
                    let input = format!("{n} {round}\n").repeat(100);
                    let called = copy.call(&Call { input: input.clone().into(), ..command() });
                    assert_eq!(text(&called), input);
                    // Zero: what those before have left there is gone.
                    let called = secret.call(&function("swap", &[&n.to_string()]));
                    assert_eq!(text(&called), "0\n1\n");
                }
            });
        }
    });
}

#[test]
fn a_loop_is_stopped_in_time_whatever_else_runs() {
    let host = Host::new().unwrap();
    let traps = load(&host, TRAPS);
    let limit = Duration::from_millis(200);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let begin = Instant::now();
                let called = traps.call(&Call { time_limit: Some(limit), ..function("loop", &[]) });
                assert_eq!(called.end, End::TimedOut);
                assert!(begin.elapsed() >= limit);
                assert!(begin.elapsed() < limit + Duration::from_secs(20));
            });
        }
        for _ in 0..100 {
            assert_eq!(text(&traps.call(&function("add", &["1", "1"]))), "2\n");
        }
    });
}

#[test]
fn who_waits_is_stopped_in_time_too() {
    let host = Host::new().unwrap();
    let sleep = load(&host, include_str!("modules/sleep.wat"));
    let limit = Some(Duration::from_millis(100));
    let called = sleep.call(&Call { time_limit: limit, ..function("sleep", &[]) });
    assert_eq!(called.end, End::TimedOut);
}

#[test]
fn a_limit_that_is_not_reached_changes_nothing() {
    let host = Host::new().unwrap();
    let traps = load(&host, TRAPS);
    let limit = Some(Duration::from_secs(3600));
    let called = traps.call(&Call { time_limit: limit, ..function("add", &["2", "2"]) });
    assert_eq!((text(&called), &called.end), ("4\n", &End::Exited(0)));
}

#[test]
fn memory_is_bounded() {
    let host = Host::new().unwrap();
    let traps = load(&host, TRAPS);
    let call = Call { memory: 8 * MEBIBYTE, ..function("grow", &[]) };
    let called = traps.call(&call);
    assert_eq!(called.end, End::Exited(0));
    let pages: u64 = text(&called).trim().parse().unwrap();
    assert!(pages <= 128 && pages > 100, "{pages}");

    let call = Call { memory: 8 * MEBIBYTE, ..function("grow-and-trap", &[]) };
    assert!(matches!(traps.call(&call).end, End::OutOfMemory { .. }));
    // Not even what it begins with.
    let call = Call { memory: 1024, ..function("add", &["1", "1"]) };
    assert!(matches!(traps.call(&call).end, End::OutOfMemory { .. }));
    // A table is memory, too.
    let table = load(&host, "(module (table 100 funcref) (func (export \"_start\")))");
    assert!(matches!(table.call(&Call { memory: 100, ..command() }).end, End::OutOfMemory { .. }));
}

#[test]
fn output_is_bounded_and_said_to_be_cut() {
    let host = Host::new().unwrap();
    let shout = load(&host, include_str!("modules/shout.wat"));
    // 256 MiB; what is not kept is not held either.
    let called = shout.call(&function("shout", &["4096"]));
    assert_eq!(called.end, End::Exited(0));
    assert!(called.output.is_cut);
    assert_eq!(called.output.bytes.len(), 4 << 20);
    let limit = Some(Duration::from_millis(300));
    let called = shout.call(&Call { time_limit: limit, ..command() });
    assert_eq!(called.end, End::TimedOut);
    assert!(called.output.is_cut);
    let called = shout.call(&function("shout", &["1"]));
    assert_eq!((called.output.bytes.len(), called.output.is_cut), (65536, false));
}

#[test]
fn foreign_code_is_refused() {
    let host = Host::new().unwrap();
    assert!(host.load(b"").is_err());
    assert!(host.load(b"\0asm\x01\0\0\0").is_err());
    let code = compile(TRAPS.as_bytes()).unwrap();
    assert!(host.load(&code[..code.len() / 2]).is_err());
}

#[test]
fn more_calls_than_there_is_room_for_wait() {
    let host = Host::new().unwrap();
    let sleep = load(&host, include_str!("modules/sleep.wat"));
    let call = Call { time_limit: Some(Duration::from_millis(50)), ..function("sleep", &[]) };
    thread::scope(|scope| {
        for _ in 0..600 {
            let small = thread::Builder::new().stack_size(256 << 10);
            let run = || assert_eq!(sleep.call(&call).end, End::TimedOut);
            small.spawn_scoped(scope, run).unwrap();
        }
    });
}
