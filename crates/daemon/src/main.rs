//! The daemon's program.
#![cfg_attr(target_os = "linux", no_main)]

// The standard library's own would catch signals that are to end a program.
#[cfg(target_os = "linux")]
agentkernel_sys::main!(run);

#[cfg(target_os = "linux")]
fn run() -> u8 {
    agentkernel_daemon::run(std::env::args_os())
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: there is no daemon for this system yet\nhint: use it on Linux");
    std::process::ExitCode::from(125)
}
