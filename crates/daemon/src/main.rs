//! The daemon's program.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    agentkernel_daemon::run(std::env::args_os().skip(1))
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: there is no daemon for this system yet\nhint: use it on Linux");
    std::process::ExitCode::from(125)
}
