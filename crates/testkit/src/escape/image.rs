//! Images that an attempt makes, for whatever takes them: a backend that boots a directory, or an
//! engine, which is given an archive of it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use agentkernel_core::Capability;

use crate::{Captured, NotPassed, Scratch, Subject, Verdict, skip};

/// An image. What an engine has of it goes when it is dropped.
pub(super) struct Image<'a> {
    subject: &'a Subject,
    /// What `--image` calls it.
    name: String,
    imported: bool,
}

impl<'a> Image<'a> {
    /// Makes one of a tree. Of an engine's, all in it belongs to root, and `changes` are instructions
    /// of a Dockerfile that the image has as well.
    pub(super) fn of(
        subject: &'a Subject,
        scratch: &Scratch,
        tree: &Path,
        changes: &[&str],
    ) -> Result<Self, NotPassed> {
        if subject.has(Capability::ImageRootfs) {
            let name = format!("rootfs:{}", tree.display());
            return Ok(Self { subject, name, imported: false });
        }
        if !subject.has(Capability::ImageReference) {
            skip!("{} takes no image that could be made here", subject.backend);
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("localhost/agentkernel-hostile-{}-{count}", std::process::id());
        let archive = scratch.path().join(format!("image-{count}.tar"));
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "--owner=0", "--group=0"]);
        tar.args(["--xattrs", "--xattrs-include=security.capability", "-C"]);
        tar.arg(tree).arg("-cf").arg(&archive).arg(".");
        done(tar)?;
        let mut import = subject.engine_command(["import"]);
        import.args(changes.iter().flat_map(|change| ["--change", change]));
        import.arg(&archive).arg(&name);
        done(import)?;
        Ok(Self { subject, name, imported: true })
    }

    pub(super) fn flags(&self) -> [String; 2] {
        ["--image".into(), self.name.clone()]
    }

    /// The engine's own tool with this image: what a program meets where no wall of ours is.
    pub(super) fn plainly(&self, flags: &[&str], argv: &[&str]) -> Command {
        let run = ["run", "--rm"].iter().chain(flags).copied();
        self.subject.engine_command(run.chain([&*self.name]).chain(argv.iter().copied()))
    }

    /// Whether there is such a tool.
    pub(super) fn is_an_engines(&self) -> bool {
        self.imported
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        if !self.imported {
            return;
        }
        let name = self.name.as_str();
        let run = |words: &[&str]| {
            let mut command = self.subject.engine_command(words);
            command.stdin(Stdio::null()).stderr(Stdio::null()).output()
        };
        // Containers that are still being cleared away would go with the image, and leave volumes.
        let of_it = format!("ancestor={name}");
        let left = run(&["ps", "-aq", "--filter", &of_it]).map(|output| output.stdout);
        let left = String::from_utf8_lossy(&left.unwrap_or_default()).into_owned();
        for container in left.split_whitespace() {
            let _ = run(&["rm", "-f", "-v", container]);
        }
        let _ = run(&["rmi", "-f", name]);
    }
}

fn done(mut command: Command) -> Verdict {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Captured::of(command)?.exits(0).map(drop)
}
