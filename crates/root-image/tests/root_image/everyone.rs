//! Who runs a part of a test: whoever runs all, or an ordinary user.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use agentkernel_testkit::Scratch;

/// An ordinary user, whose number is nobody's.
pub const USER: u32 = 23456;

/// Tells the part that is run in a process of its own with what.
pub const WITH: &str = "ROOT_IMAGE_TEST_WITH";

/// The test that runs again, and what with, if this process is for that.
pub fn with() -> Option<std::ffi::OsString> {
    std::env::var_os(WITH)
}

/// This program where everybody can start it.
pub struct Program(Scratch);

impl Program {
    pub fn new() -> Self {
        let scratch = Scratch::public_in(&std::env::temp_dir()).unwrap();
        // What another test starts would hold a file open that is written here, and so nobody could
        // run it.
        let mut copy = Command::new("cp");
        copy.arg(std::env::current_exe().unwrap()).arg(scratch.path().join("program"));
        assert!(copy.status().unwrap().success());
        Self(scratch)
    }

    /// Runs the test of this name alone, in a process of its own.
    pub fn test(&self, name: &str, with: &Path) -> Command {
        let mut command = Command::new(self.0.path().join("program"));
        command.args(["--exact", name, "--nocapture"]).env(WITH, with).current_dir("/");
        command
    }

    /// The same as an ordinary user.
    pub fn test_as_user(&self, name: &str, with: &Path) -> Command {
        let mut command = self.test(name, with);
        command.uid(USER).gid(USER);
        command
    }
}
