//! Images that are built from a folder.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use agentkernel_core::Capability;

use super::OF_ITS_OWN;
use crate::host::unique_sleep;
use crate::{Behaviour, Captured, NotPassed, Route, Scratch, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "image-built",
        "an image is built from a folder with what .dockerignore leaves in, and run",
        &[Capability::ImageBuild],
        image_built,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-built-anew",
        "a folder that has changed is built again, and the next run has the change",
        &[Capability::ImageBuild],
        image_built_anew,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-build-fails",
        "a build that fails names the step and shows its last lines, and nothing runs",
        &[Capability::ImageBuild],
        image_build_fails,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-build-trusted",
        "a project's file builds nothing unless it is trusted",
        &[Capability::ImageBuild],
        image_build_trusted,
    )
    .only(Route::Cold, OF_ITS_OWN),
];

/// The image that builds begin with.
fn base(subject: &Subject) -> Result<String, NotPassed> {
    if !subject.has_engine() {
        let why = "an engine builds its images, and is tried with those; see tests/images.rs";
        return Err(NotPassed::Skipped(why.into()));
    }
    std::env::var("TESTKIT_IMAGE")
        .map_err(|_| NotPassed::Skipped("no image is named by TESTKIT_IMAGE".into()))
}

/// A folder in the scratch with this Dockerfile behind its `FROM`.
fn build_folder(
    subject: &Subject,
    scratch: &Scratch,
    dockerfile: &str,
) -> Result<PathBuf, NotPassed> {
    let folder = scratch.folder("work/build")?;
    let text = format!("FROM {}\n{dockerfile}", base(subject)?);
    scratch.file("work/build/Dockerfile", text)?;
    Ok(folder)
}

/// Removes what was built in the folder of a scratch, which nobody will build again.
struct Built<'a> {
    subject: &'a Subject,
    folder: PathBuf,
    name: Option<String>,
}

impl<'a> Built<'a> {
    fn in_folder(subject: &'a Subject, scratch: &Scratch) -> Self {
        Self { subject, folder: scratch.path().join("work/build"), name: None }
    }

    /// Learns the name of what was built from `--verbose`.
    fn by(&mut self, got: &Captured) {
        let errors = got.errors();
        let name =
            errors.split_whitespace().find(|word| word.starts_with("localhost/agentkernel-build-"));
        self.name = name.map(|name| name.trim_end_matches(',').to_owned()).or(self.name.take());
    }
}

impl Drop for Built<'_> {
    fn drop(&mut self) {
        let Some(name) = &self.name else { return };
        // What lost its name to the next one that was built there goes too, but not where builds
        // beside this one are confused by that, as Podman's are.
        let label = format!("label=agentkernel.built-from={}", self.folder.display());
        let prune = ["image", "prune", "-f", "--filter", &label];
        let remove = ["rmi", "-f", name];
        let all = match self.subject.backend.as_str() {
            "podman" => &[&remove[..]][..],
            _ => &[&remove[..], &prune],
        };
        for words in all {
            let mut engine = self.subject.engine_command(*words);
            let _ = engine.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

fn image_built(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    // A step that was built before would say nothing.
    let mark = unique_sleep();
    let made = format!("RUN cat /copied/kept > /made && echo said by $((6 * 7)) # {mark}");
    let folder =
        build_folder(subject, &scratch, &format!("COPY . /copied\n{made}\nENV BUILT=yes\n"))?;
    for file in ["kept", "left", "sub/left.log", "sub/kept.log", "sub/kept"] {
        let path = folder.join(file);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            fs::create_dir(parent)?;
            scratch.give(parent)?;
        }
        scratch.file(&path, file)?;
    }
    std::os::unix::fs::symlink("kept", folder.join("link"))?;
    scratch.file(folder.join(".dockerignore"), "# not these\nleft\n**/*.log\n!sub/kept.log\n")?;
    let mut built = Built::in_folder(subject, &scratch);
    let script = "cd /copied && find . -type f | sort; readlink link; cat /made; echo; echo $BUILT";
    let flags = ["--verbose", "--build=build"];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["sh", "-c", script]))?;
    built.by(&got);
    let all = "./.dockerignore\n./Dockerfile\n./kept\n./sub/kept\n./sub/kept.log\n";
    got.exits(0)?.prints(format!("{all}kept\nkept\nyes\n"))?;
    got.mentions("agentkernel: step 2/")?.mentions("said by 42")?;
    // In few words where nobody asked for more, and in none for programs.
    let got = Captured::of(subject.run_command(&scratch, &["--build=build"], &["true"]))?;
    got.exits(0)?.mentions("agentkernel: step 1/")?;
    ensure!(!got.errors().contains("said by 42"), "all of its output is shown: {got}");
    let flags = ["--json", "--build=build"];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["true"]))?;
    ensure!(got.exits(0)?.errors().lines().count() == 1, "more than JSON is told: {got}");
    Ok(())
}

fn image_built_anew(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = build_folder(subject, &scratch, "COPY file /file\n")?;
    let mut built = Built::in_folder(subject, &scratch);
    for content in ["first", "second"] {
        scratch.file(folder.join("file"), content)?;
        let flags = ["--verbose", "--build=build"];
        let got = Captured::of(subject.run_command(&scratch, &flags, &["cat", "/file"]))?;
        built.by(&got);
        got.exits(0)?.prints(content)?;
    }
    let name = built.name.clone().unwrap_or_default();
    let flags = ["--pull", "never", "--image", &name];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["cat", "/file"]))?;
    got.exits(0)?.prints("second")?.complains("")?;
    Ok(())
}

fn image_build_fails(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    build_folder(
        subject,
        &scratch,
        "RUN echo the reason is $((6 * 7)) && exit 3\nRUN echo never\n",
    )?;
    let flags = ["--build=build"];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("step 2/")?.mentions("the reason is 42")?;
    ensure!(!got.errors().contains("never"), "a step after it was begun: {got}");
    let never = ["--build=build", "--pull", "never"];
    let got = Captured::of(subject.run_command(&scratch, &never, &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("--pull never")?;
    scratch.file("work/build/Dockerfile", "THIS is no instruction\n")?;
    let got = Captured::of(subject.run_command(&scratch, &flags, &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("can't be built")?;
    let got = Captured::of(subject.run_command(&scratch, &["--build=gone"], &["echo", "here"]))?;
    got.exits(125)?.prints("")?.mentions("gone")?;
    Ok(())
}

fn image_build_trusted(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    build_folder(subject, &scratch, "RUN echo built > /built\n")?;
    scratch.file("work/agentkernel.toml", "build = \"build\"\n")?;
    let run = |flags: &[&str]| {
        let mut command = subject.run_command(&scratch, flags, &["cat", "/built"]);
        // It would stand above the project's file.
        command.env_remove("AGENTKERNEL_IMAGE");
        Captured::of(command)
    };
    run(&[])?.exits(125)?.prints("")?.mentions("build")?.mentions("--trust")?;
    let mut built = Built::in_folder(subject, &scratch);
    let got = run(&["--verbose", "--trust"])?;
    built.by(&got);
    got.exits(0)?.prints("built\n")?;
    Ok(())
}
