//! The conformance suite over this build of agentkernel: every backend that it knows, used by
//! whoever runs the tests and, where that is root, by an ordinary user as well, on every route.
//!
//! `cargo test --test conformance -- [OPTION]... [PART OF A NAME]...`, where an option is `--list`, `--slowest`,
//! `--all-routes`, `--one-route` or `--workers=N`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use agentkernel_testkit::{Caller, Cover, NotPassed, Program, Subject, conformance, run_suite};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Held until the end: its folder goes with it.
    let program = Program::under_test(env!("CARGO_BIN_EXE_agentkernel"));
    let find_subjects = || {
        let program = program.as_ref();
        let program = program.map_err(|why| NotPassed::failed_to("copy the program", why))?;
        let callers = Caller::all().into_iter();
        let found: Result<Vec<_>, _> =
            callers.map(|caller| Subject::all(program.path(), caller)).collect();
        Ok(found?.concat().iter().flat_map(Subject::on_all_routes).collect())
    };
    match run_suite(&conformance::table(), Cover::ByMatter, &arguments, find_subjects) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("skipped conformance: it looks at the host through /proc, which only Linux has");
    println!("0 passed, 0 failed, 1 skipped");
    ExitCode::SUCCESS
}
