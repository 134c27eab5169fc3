//! The program that starts the sandbox: to overwrite it, to make it write or mount somewhere
//! else, to talk to what it leaves inside.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use agentkernel_core::Capability::{MountReadOnly, MountReadWrite};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::attempt::{Attempt, attempt};
use super::probe::judge;
use super::scene::{open_file, open_folder, volume};
use crate::host::tree;
use crate::{Behaviour, Captured, NotPassed, Route, Scratch, Subject, Verdict, ensure, lent, skip};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "overwrite-the-launcher",
        "agentkernel's own program can't be changed through process 1",
        &[MountReadOnly],
        |subject| attack_the_program(subject, "overwrite-the-launcher"),
    ),
    Behaviour::new(
        "run-the-launcher-again",
        "agentkernel's own program can't be changed through a process that runs it",
        &[MountReadOnly],
        |subject| attack_the_program(subject, "run-the-launcher-again"),
    ),
    Behaviour::new(
        "start-the-launchers-own-program",
        "a command that is a link to whoever starts it changes nothing",
        &[MountReadOnly, MountReadWrite],
        start_the_launchers_own_program,
    ),
    attempt!(
        "connect-to-the-agent",
        "there is no socket by which a program could talk to the agent or the caller",
        uncontrolled("the host's own sockets are not at stake")
    ),
    Behaviour::new(
        "redirect-the-report",
        "a link planted where the report goes leads it nowhere else",
        &[MountReadOnly, MountReadWrite],
        redirect_the_report,
    ),
    Behaviour::new(
        "redirect-the-next-report",
        "a link that a sandbox left where a later run reports leads that nowhere else",
        &[MountReadOnly, MountReadWrite],
        redirect_the_next_report,
    ),
    Behaviour::new(
        "plant-settings",
        "settings that a sandbox left in a shared folder give the next one nothing more",
        &[MountReadOnly, MountReadWrite],
        plant_settings,
    ),
    Behaviour::new(
        "swap-a-mount-target",
        "a folder swapped for a link while mounts are made below it leads none elsewhere",
        &[MountReadOnly, MountReadWrite],
        swap_a_mount_target,
    ),
    Behaviour::new(
        "swap-a-mount-source",
        "a folder swapped for a link while it is being mounted is mounted itself, or nothing",
        &[MountReadOnly, MountReadWrite],
        swap_a_mount_source,
    ),
];

/// A copy of agentkernel that belongs to its caller, who could change it. The daemon comes along if
/// it is there.
fn own_program(subject: &Subject, scratch: &Scratch, name: &str) -> Result<PathBuf, NotPassed> {
    let folder = scratch.folder(name)?;
    for file in [&subject.program, &subject.program.with_file_name("agentkerneld")] {
        let copy = folder.join(file.file_name().unwrap_or_default());
        if file.exists() {
            fs::copy(file, &copy)?;
            chown(&copy, Some(subject.caller.uid()), Some(subject.caller.gid()))?;
            fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
        }
    }
    Ok(folder.join(subject.program.file_name().unwrap_or_default()))
}

/// All that a program's file is.
fn state_of(program: &Path) -> Result<(Vec<u8>, u32, u32, i64), NotPassed> {
    let data = fs::metadata(program)?;
    Ok((fs::read(program)?, data.mode(), data.uid(), data.mtime()))
}

/// Where the agent's program is in a container.
const IN_A_CONTAINER: &str = "/.agentkernel/agent";

fn attack_the_program(subject: &Subject, name: &'static str) -> Verdict {
    let scratch = subject.scratch()?;
    let program = own_program(subject, &scratch, "program")?;
    let victim = own_program(subject, &scratch, "victim")?;
    let before = state_of(&program)?;
    let subject = Subject { program: program.clone(), ..subject.clone() };
    let by_name = program.to_string_lossy().into_owned();
    Attempt::new(name)
        .words(&["/proc/1/exe", IN_A_CONTAINER, &by_name])
        .control_words(&[&victim])
        .holds_in(&subject, &scratch)?;
    ensure!(state_of(&program)? == before, "the program has changed");
    Ok(())
}

fn start_the_launchers_own_program(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let program = own_program(subject, &scratch, "program")?;
    let before = state_of(&program)?;
    let shared = open_folder(&scratch, "shared")?;
    symlink("/proc/self/exe", shared.join("link"))?;
    let script = open_file(&scratch, "shared/script", "#!/proc/self/exe run\n")?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    let subject = Subject { program: program.clone(), ..subject.clone() };
    for command in
        ["/proc/self/exe", "/proc/1/exe", IN_A_CONTAINER, "/shared/link", "/shared/script"]
    {
        let flags = volume(&shared, "/shared", "rw");
        // Whatever of agentkernel is there, it can't make a sandbox of its own inside.
        let words = [command, "run", "--", "/bin/echo", "nested"];
        let run = subject.run_command(&scratch, &flags, &words);
        let got = Captured::of(run)?;
        ensure!(!got.status.success(), "{command} succeeded: {got}");
        ensure!(state_of(&program)? == before, "{command} has changed the program");
    }
    Ok(())
}

fn redirect_the_report(subject: &Subject) -> Verdict {
    for place in ["report", "reports/report"] {
        let scratch = subject.scratch()?;
        let shared = open_folder(&scratch, "shared")?;
        open_folder(&scratch, "shared/reports")?;
        open_folder(&scratch, "victims")?;
        let victim = scratch.file("victims/report", "precious\n")?;
        let victims = scratch.path().join("victims");
        let report = shared.join(place);
        let attempt = Attempt::new("redirect-the-report")
            .words(&[Path::new("/shared"), &victim, &victims])
            .flags(&volume(&shared, "/shared", "rw"))
            .flags(&[Path::new("--report"), &report]);
        let got = attempt.inside(subject, &scratch)?;
        let now = fs::read_to_string(&victim)?;
        ensure!(now == "precious\n", "{place}: the victim has become {now:?}");
        judge(&got)?;
    }
    Ok(())
}

/// Runs a shell's script with a word in a sandbox that may write to the folder.
fn prepare(subject: &Subject, shared: &Path, script: &str, word: &str) -> Verdict {
    let flags = volume(shared, "/shared", "rw");
    let argv = ["sh", "-c", script, "sh", word];
    subject.run(&flags, &argv)?.exits(0).map(drop)
}

fn redirect_the_next_report(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let shared = open_folder(&scratch, "shared")?;
    let victim = scratch.file("victim", "precious\n")?;
    let to = victim.to_string_lossy();
    prepare(subject, &shared, "ln -s \"$1\" /shared/report", &to)?;
    let report = shared.join("report");
    let flags = [Path::new("--report"), &report];
    Captured::of(subject.run_command(&scratch, &flags, &["true"]))?;
    let now = fs::read_to_string(&victim)?;
    ensure!(now == "precious\n", "the victim has become {now:?}");
    Ok(())
}

fn plant_settings(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let shared = open_folder(&scratch, "shared")?;
    let outside = open_folder(&scratch, "outside")?;
    open_file(&scratch, "outside/secret", "a secret\n")?;
    let settings = format!("volumes = [\"{}:/data:rw\"]", outside.display());
    let script = "printf '%s\\n' \"$1\" > /shared/agentkernel.toml";
    prepare(subject, &shared, script, &settings)?;
    let attempt = Attempt::new("read-files").words(&["/data/secret"]);
    let mut command = attempt.command(subject, &scratch)?;
    command.current_dir(&shared);
    let got = Captured::of(command)?;
    // To refuse such settings is as good as not to follow them.
    if got.status.code() == Some(125) {
        return got.prints("")?.mentions("agentkernel.toml").map(drop);
    }
    judge(&got)
}

/// Swaps two paths again and again while `runs` goes on.
fn while_swapping(one: &Path, other: &Path, runs: impl FnOnce() -> Verdict) -> Verdict {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
            }
            Ok::<_, NotPassed>(())
        });
        let verdict = runs();
        over.store(true, Ordering::Relaxed);
        let swapped = swapping.join();
        verdict?;
        swapped.unwrap_or_else(|_| Err(NotPassed::Failed("the swapping panicked".into())))
    })
}

/// How often each race is run: enough to be won now and then if it can be.
const RUNS: u32 = 25;

/// What a race is about: a shared folder with a folder in it that is swapped for a link, and
/// what that link leads to.
struct Race {
    scratch: Scratch,
    shared: PathBuf,
    victims: PathBuf,
}

impl Race {
    fn prepare(subject: &Subject) -> Result<Self, NotPassed> {
        let scratch = subject.scratch()?;
        let shared = open_folder(&scratch, "shared")?;
        open_folder(&scratch, "shared/folder")?;
        let victims = open_folder(&scratch, "victims")?;
        open_file(&scratch, "victims/file", "precious\n")?;
        symlink(&victims, shared.join("link"))?;
        Ok(Self { scratch, shared, victims })
    }

    /// Runs `attempt` while the swapping goes on; the victims must stay as they are. A run may
    /// be refused, or see either of the two; whether that was right, only the victims tell.
    fn run(&self, subject: &Subject, attempt: &Attempt) -> Verdict {
        let before = tree(&self.victims);
        let (folder, link) = (self.shared.join("folder"), self.shared.join("link"));
        while_swapping(&folder, &link, || {
            for turn in 0..RUNS {
                let got = attempt.inside(subject, &self.scratch)?;
                let after = tree(&self.victims);
                ensure!(after == before, "turn {turn}: now there are {after:?}: {got}");
            }
            Ok(())
        })
    }
}

fn swap_a_mount_target(subject: &Subject) -> Verdict {
    let race = Race::prepare(subject)?;
    let source = open_folder(&race.scratch, "source")?;
    let attempt = Attempt::new("overwrite-files")
        .words(&["/shared/folder/target/planted", "/shared/folder/planted", "/shared/link/planted"])
        .flags(&volume(&race.shared, "/shared", "rw"))
        .flags(&volume(&source, "/shared/folder/target", "rw"));
    race.run(subject, &attempt)
}

fn swap_a_mount_source(subject: &Subject) -> Verdict {
    let race = Race::prepare(subject)?;
    if lent::is_lent_to(subject) {
        return swap_before_the_engine(subject, &race);
    }
    if follows_links(subject, &race)? {
        skip!("links in a volume's source are followed, so that there is nothing to win");
    }
    let attempt = Attempt::new("overwrite-files")
        .words(&["/data/planted", "/data/file"])
        .flags(&volume(&race.shared.join("folder"), "/data", "rw"));
    race.run(subject, &attempt)
}

/// The same where the engine is root's and mounts by itself: the folder is swapped after all looks at
/// it, just before the engine has its own.
fn swap_before_the_engine(subject: &Subject, race: &Race) -> Verdict {
    let (folder, link) = (race.shared.join("folder"), race.shared.join("link"));
    let flags = volume(&folder, "/data", "rw");
    let aside = race.shared.join("aside");
    let swap = move || {
        // Once is enough.
        let _ = fs::rename(&folder, &aside).and_then(|()| fs::rename(&link, &folder));
    };
    let socket = race.scratch.path().join("engine.sock");
    let Some(engine) = lent::engine() else { skip!("there is no Docker") };
    lent::lend(engine, &socket, subject.caller.gid(), swap)
        .map_err(|why| NotPassed::failed_to("lend root's Docker", why))?;
    let before = tree(&race.victims);
    let argv = ["sh", "-c", "cat /data/file; touch /data/planted"];
    let mut command = subject.on(Route::Cold).run_command(&race.scratch, &flags, &argv);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    let got = Captured::of(command)?;
    ensure!(race.shared.join("aside").exists(), "nothing was swapped: {got}");
    got.exits(125)?.prints("")?.mentions("somebody has put something else there")?;
    ensure!(before == tree(&race.victims), "the victims were changed: {got}");
    Ok(())
}

/// Whether a source that is a link is taken for what the link leads to, as Docker does: then it
/// is the caller who gave that away, race or not.
fn follows_links(subject: &Subject, race: &Race) -> Result<bool, NotPassed> {
    let flags = volume(&race.shared.join("link"), "/data", "ro");
    let got = Captured::of(subject.run_command(&race.scratch, &flags, &["cat", "/data/file"]))?;
    Ok(got.text() == "precious\n")
}
