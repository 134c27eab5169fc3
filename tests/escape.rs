//! The escape suite over this build of agentkernel: attempts that must fail, made by whoever runs
//! the tests and, where that is root, by an ordinary user as well, on every route.
//!
//! `cargo test --test escape -- [OPTION]... [PART OF A NAME]...`, where an option is `--list`, `--slowest`,
//! `--all-routes` or `--workers=N`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use agentkernel_testkit::escape::{Probe, table};
    use agentkernel_testkit::{Caller, Cover, NotPassed, Program, Subject, run_suite};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Both are held until the end: their folders go with them.
    let program = Program::under_test(env!("CARGO_BIN_EXE_agentkernel"));
    let probe = Probe::compile();
    let find_subjects = || {
        let program = program.as_ref();
        let program = program.map_err(|why| NotPassed::failed_to("copy the program", why))?;
        probe.as_ref().map_err(Clone::clone)?;
        let callers = Caller::all().into_iter();
        let found: Result<Vec<_>, _> =
            callers.map(|caller| Subject::all(program.path(), caller)).collect();
        Ok(found?.concat().iter().flat_map(Subject::on_all_routes).collect())
    };
    match run_suite(&table(), Cover::EachOnOneRoute, &arguments, find_subjects) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("skipped escape: it looks at the host through /proc, which only Linux has");
    println!("0 passed, 0 failed, 1 skipped");
    ExitCode::SUCCESS
}
