//! That nothing of a run is left on the host, however it went: no process, mount, control group
//! or file. Namespaces live by processes and mounts, and go with them.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};
use std::time::Duration;

use agentkernel_core::{Capability, LimitKind};
use rustix::process::Signal;

use crate::host::{Orphanage, Remains, unique_sleep};
use crate::running::patiently;
use crate::{
    Behaviour, Captured, NO_FLAGS, NotPassed, Route, Running, Scratch, Subject, TerminalSession,
    Verdict, ensure,
};

/// How long what survives agentkernel's own sudden death may take to clean up.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Why all of this is for sandboxes of a single command.
const THE_END: &str = "only there is the end of a run the end of all";

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "nothing-left-by-success",
        "nothing is left behind by a command that succeeds, with limits, copies and volumes",
        &[],
        nothing_left_by_success,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-failure",
        "nothing is left behind by a command that fails, is not found or is killed",
        &[],
        nothing_left_by_failure,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-a-time-out",
        "nothing is left behind by a command that ran out of time",
        &[],
        nothing_left_by_a_time_out,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-a-terminal",
        "nothing is left behind by a command with a terminal",
        &[Capability::Terminal],
        nothing_left_by_a_terminal,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-signals",
        "nothing is left behind when agentkernel is told to end",
        &[],
        nothing_left_by_signals,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-a-kill",
        "killing agentkernel kills its sandbox, and nothing is left behind",
        &[],
        nothing_left_by_a_kill,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-a-kill-at-any-time",
        "nothing is left behind when agentkernel is killed while it starts or ends a sandbox",
        &[],
        nothing_left_by_a_kill_at_any_time,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-a-failing-boot",
        "nothing is left behind by a sandbox that can't be made",
        &[],
        nothing_left_by_a_failing_boot,
    )
    .alone()
    .only(Route::Cold, THE_END),
    Behaviour::new(
        "nothing-left-by-doctor",
        "nothing is left behind by doctor",
        &[],
        nothing_left_by_doctor,
    )
    .alone()
    .only(Route::Cold, THE_END),
];

/// A place to run in, and what there was before.
struct Watch<'a> {
    subject: &'a Subject,
    scratch: Scratch,
    orphanage: Orphanage,
    before: Remains,
}

impl<'a> Watch<'a> {
    fn begin(subject: &'a Subject) -> Result<Self, NotPassed> {
        let scratch = subject.scratch()?;
        scratch.folder("work/project")?;
        scratch.file("work/project/file", "old\n")?;
        // The audit log and its folders stay, from the first run on.
        Captured::of(subject.run_command(&scratch, &NO_FLAGS, &["true"]))?.exits(0)?;
        let orphanage = Orphanage::open()?;
        let before = Remains::look(&orphanage, &scratch);
        Ok(Self { subject, scratch, orphanage, before })
    }

    /// A run that leaves traces if anything does: with every limit that can be had here, and a
    /// copy of a project.
    fn run(&self, flags: &[&str], script: &str) -> Command {
        let mut all: Vec<OsString> = flags.iter().map(Into::into).collect();
        for (kind, value) in
            [(LimitKind::Cpus, "1"), (LimitKind::Memory, "256m"), (LimitKind::Pids, "64")]
        {
            if self.subject.exact_limit(kind).is_ok() {
                all.extend([format!("--{}", kind.name()).into(), value.into()]);
            }
        }
        if self.subject.has(Capability::MountCopyOnWrite) {
            let mut project = OsString::from("--project=");
            project.push(self.scratch.path().join("work/project"));
            project.push(":cow");
            all.push(project);
        }
        self.subject.run_command(&self.scratch, &all, &["sh", "-c", script])
    }

    /// The run of `script` that is begun and marked: it has said a line.
    fn begun(&self, script: &str) -> Result<Running, NotPassed> {
        let script = format!("echo more >> file; mkdir -p new/folder; echo begun; {script}");
        let mut running = Running::start(self.run(&[], &script))?;
        running.line()?;
        Ok(running)
    }

    /// Nothing is here that was not there before; `what` names the deed in the message.
    fn nothing_left(&self, what: &str) -> Verdict {
        let patience = self.subject.patience_for_engine();
        let left = Remains::left_within(patience, &self.orphanage, &self.scratch, &self.before)?;
        ensure!(left.is_empty(), "left behind by {what}: {}", left.join("; "));
        Ok(())
    }

    /// Waits for those who outlive a killed agentkernel to clean up.
    fn aftermath(&self, what: &str) -> Verdict {
        let empty = self.orphanage.empties_within(patiently(AFTERMATH))?;
        let inmates = self.orphanage.inmates();
        ensure!(empty, "still running {AFTERMATH:?} after {what}: {inmates:?}");
        if !self.subject.has(Capability::ImageHost) {
            // What an engine was told to make and not yet to start it keeps.
            let mut prune = self.subject.agentkernel(&self.scratch);
            prune.args(["prune", "-f"]);
            Captured::of(prune)?.exits(0)?;
        }
        Ok(())
    }
}

fn nothing_left_by_success(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    // While it runs there is something to be seen, or the look would show nothing at the end.
    let running = watch.begun("sleep 60 & setsid sleep 60 & sleep 0.1")?;
    let during = Remains::look(&watch.orphanage, &watch.scratch).beyond(&watch.before);
    ensure!(!during.is_empty(), "a running sandbox can't be seen, so nothing is shown");
    running.finish()?.exits(0)?;
    watch.nothing_left("a success")?;
    let permissive = subject.has_permissive().then_some("permissive");
    for profile in ["restrictive", "moderate"].into_iter().chain(permissive) {
        let got = subject.run(&["--profile", profile], &["true"])?;
        got.exits(0)?;
        watch.nothing_left(&got.shown)?;
    }
    Ok(())
}

fn nothing_left_by_failure(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    watch.begun("exit 3")?.finish()?.exits(3)?;
    watch.nothing_left("exit status 3")?;
    watch.begun("kill -9 $$")?.finish()?.exits(137)?;
    watch.nothing_left("a death by SIGKILL")?;
    for (argv, code) in [(["no-such-program"], 127), (["/etc/passwd"], 126)] {
        let command = subject.run_command(&watch.scratch, &NO_FLAGS, &argv);
        Captured::of(command)?.exits(code)?;
        watch.nothing_left("a command that can't be started")?;
    }
    if subject.exact_limit(LimitKind::Memory).is_ok() {
        let hungry = "exec dd if=/dev/zero of=/dev/null bs=600M count=1";
        watch.begun(hungry)?.finish()?.exits(137)?;
        watch.nothing_left("a death for want of memory")?;
    }
    Ok(())
}

fn nothing_left_by_a_time_out(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 60' & echo more >> file; \
                  sleep 60";
    Captured::of(watch.run(&["--timeout", "300ms"], script))?.exits(124)?;
    watch.nothing_left("a time-out")?;
    Captured::of(watch.run(&["--timeout", "1ms"], script))?.exits(124)?;
    watch.nothing_left("a time-out at once")
}

fn nothing_left_by_a_terminal(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    let command = watch.run(&[], "echo begun; exit 3");
    let (got, _) = TerminalSession::start(&command, subject.caller, (24, 80))?.finish()?;
    got.exits(3)?;
    watch.nothing_left("a run on a terminal")?;
    let command = watch.run(&[], "echo begun; exec sleep 60");
    let mut session = TerminalSession::start(&command, subject.caller, (24, 80))?;
    session.running.until("begun")?;
    session.hang_up().wait()?;
    watch.nothing_left("a terminal that went away")
}

fn nothing_left_by_signals(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let running = watch.begun("exec sleep 60")?;
        running.signal(signal)?;
        running.finish()?;
        watch.nothing_left(&format!("{signal:?}"))?;
    }
    Ok(())
}

fn nothing_left_by_a_kill(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    for signal in [Signal::KILL, Signal::SEGV, Signal::ABORT] {
        let duration = unique_sleep();
        let script = format!("trap '' TERM HUP; setsid sleep {duration} & sleep {duration}");
        let mut running = watch.begun(&format!("sleep 0.2; echo settled; {script}"))?;
        running.line()?;
        running.signal(signal)?;
        running.wait()?;
        watch.aftermath(&format!("{signal:?}"))?;
        watch.nothing_left(&format!("{signal:?}"))?;
    }
    Ok(())
}

fn nothing_left_by_a_kill_at_any_time(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    let mut usual = Vec::new();
    for _ in 0..3 {
        usual.push(Captured::of(watch.run(&[], "true"))?.took);
    }
    let usual = usual.iter().min().copied().unwrap_or_default();
    // From right after the start to past the usual end.
    let steps: u32 = if subject.sampled { 12 } else { 24 };
    for step in 0..steps {
        let delay = usual * step * 6 / (steps * 5);
        let running = Running::start(watch.run(&[], "true"))?;
        running.ends_within(delay)?;
        running.signal(Signal::KILL)?;
        running.finish()?;
        let what = format!("SIGKILL after {delay:?}");
        watch.aftermath(&what)?;
        watch.nothing_left(&what)?;
    }
    Ok(())
}

fn nothing_left_by_a_failing_boot(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    let file = watch.scratch.path().join("work/project/file");
    let mut over_proc = file.clone().into_os_string();
    over_proc.push(":/proc/version/impossible:ro");
    let cases: [&[&OsStr]; 5] = [
        &["--image".as_ref(), "rootfs:/no/such/folder".as_ref()],
        &["-v".as_ref(), "/no/such/folder:/data:ro".as_ref()],
        &["-v".as_ref(), &over_proc],
        &["-w".as_ref(), "/no/such/folder".as_ref()],
        &["-u".as_ref(), "nobody-that-is-known".as_ref()],
    ];
    for flags in cases {
        let mut command = subject.run_command(&watch.scratch, flags, &["echo", "ran"]);
        command.stdin(Stdio::null());
        let got = Captured::of(command)?;
        got.exits(125)?.prints("")?.mentions("error: ")?;
        watch.nothing_left(&got.shown)?;
    }
    Ok(())
}

fn nothing_left_by_doctor(subject: &Subject) -> Verdict {
    let watch = Watch::begin(subject)?;
    for arguments in [&["doctor"][..], &["doctor", "--json"]] {
        let mut doctor = subject.agentkernel(&watch.scratch);
        doctor.args(arguments);
        Captured::of(doctor)?.exits(0)?;
        watch.nothing_left("doctor")?;
    }
    Ok(())
}
