//! Who runs a test: whoever runs all, and an ordinary user.

use std::os::unix::process::CommandExt;
use std::process::Command;

use agentkernel_testkit::Scratch;

/// An ordinary user, whose number is nobody's.
pub const USER: u32 = 23456;

/// Names the test that is run again as an ordinary user.
const AGAIN: &str = "UNPACK_TEST_AGAIN";

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the body of the test `name` as whoever runs the tests, and if that is root as an ordinary
/// user besides.
pub fn everyone(name: &str, body: impl FnOnce()) {
    body();
    if !is_root() || std::env::var_os(AGAIN).is_some() {
        return;
    }
    // The program itself may lie where that user can't go.
    let scratch = Scratch::public_in(&std::env::temp_dir()).unwrap();
    let program = scratch.path().join("program");
    // What another test starts would hold a file open that is written here, and so nobody could run it.
    let mut copy = Command::new("cp");
    copy.arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(copy.status().unwrap().success());
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture"]).env(AGAIN, "1").current_dir("/");
    let output = command.uid(USER).gid(USER).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "as an ordinary user: {said}");
}
