//! Mistakes of the caller's: one clear message with a hint, exit status 125, nothing run and
//! nothing left.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::process::Stdio;

use agentkernel_core::Capability;

use crate::host::tree;
use crate::{
    Behaviour, Captured, Commands, NO_FLAGS, NotPassed, Route, Scratch, Subject, Verdict, ensure,
    skip,
};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "bad-command-line",
        "an unknown verb or flag and a missing word are refused, with the nearest name",
        &[],
        bad_command_line,
    )
    .only(Route::Cold, "it is about the program's own command line")
    .of(Commands::None),
    Behaviour::new(
        "bad-names",
        "an unknown backend, profile, network, image, access or user is refused",
        &[],
        bad_names,
    ),
    Behaviour::new(
        "missing-capability",
        "what the backend can't do is refused rather than left out",
        &[],
        missing_capability,
    ),
    Behaviour::new(
        "bad-amounts",
        "limits and times that are zero, negative, overflowing or no number are refused",
        &[],
        bad_amounts,
    ),
    Behaviour::new(
        "amounts-beyond-the-machine",
        "limits that this machine could never reach are refused",
        &[],
        amounts_beyond_the_machine,
    ),
    Behaviour::new(
        "bad-paths",
        "images, projects, volumes and directories that are missing or no folder are refused",
        &[],
        bad_paths,
    ),
    Behaviour::new(
        "bad-environment",
        "variables without a name and env files that can't be read are refused",
        &[],
        bad_environment,
    ),
    Behaviour::new(
        "bad-settings-file",
        "an agentkernel.toml with a mistake is refused, with the line of it",
        &[],
        bad_settings_file,
    ),
    Behaviour::new(
        "bad-settings-variables",
        "a variable of agentkernel's own with a mistake is refused by its name",
        &[],
        bad_settings_variables,
    ),
    Behaviour::new(
        "settings-in-order",
        "a flag wins over a variable, and a variable over agentkernel.toml",
        &[Capability::NetworkFull],
        settings_in_order,
    ),
    Behaviour::new("no-command", "a run without a command is refused", &[], no_command)
        .only(Route::Cold, "it is about run's own command line"),
    Behaviour::new(
        "report-with-no-room",
        "a report that can't be written is an error, never a silent loss",
        &[],
        report_with_no_room,
    ),
    Behaviour::new(
        "output-with-no-room",
        "doctor on a full disk says so, and without a reader it ends without a panic",
        &[],
        output_with_no_room,
    )
    .only(Route::Cold, "doctor runs no command")
    .of(Commands::None),
];

/// The run was refused as it should be, and `parts` are in its message.
pub(super) fn refused<'a>(got: &'a Captured, parts: &[&str]) -> Result<&'a Captured, NotPassed> {
    got.exits(125)?.prints("")?;
    let errors = got.errors();
    let count = |start: &str| errors.lines().filter(|line| line.starts_with(start)).count();
    ensure!(errors.starts_with("error: ") && count("error:") == 1, "expected one error: {got}");
    ensure!(count("hint: ") == 1, "expected one hint: {got}");
    for noise in ["panicked", "Os {", "Err(", "RUST_BACKTRACE", "Error {"] {
        ensure!(!errors.contains(noise), "expected a message for people: {got}");
    }
    for part in parts {
        got.mentions(part)?;
    }
    Ok(got)
}

/// Mistakes, each with what its message must name.
pub(super) type Cases<'a> = &'a [(&'a [&'a str], &'a [&'a str])];

/// Each set of flags is refused for a command that would otherwise run, and nothing is left.
pub(super) fn all_refused(subject: &Subject, scratch: &Scratch, cases: Cases<'_>) -> Verdict {
    let argv = ["echo", "ran"];
    let good = Captured::of(subject.run_command(scratch, &NO_FLAGS, &argv))?;
    good.exits(0)?.prints("ran\n")?;
    let files = || {
        let mut files = tree(scratch.path());
        // It tells of what was refused as well.
        files.remove(&scratch.path().join("state/agentkernel/audit.jsonl"));
        // Where sandboxes live on there is the one in which the command was refused.
        let of_sandboxes = [scratch.path().join("state"), scratch.path().join("runtime")];
        files.retain(|path, _| {
            subject.route == Route::Cold || !of_sandboxes.iter().any(|top| path.starts_with(top))
        });
        files
    };
    let before = files();
    each_holds(cases, |(flags, parts)| {
        refused(&Captured::of(subject.run_command(scratch, flags, &argv))?, parts)?;
        let after = files();
        ensure!(before == after, "files were left behind by {flags:?}: {after:?}");
        Ok(())
    })
}

/// Tries every case, and fails with what is wrong with all of them.
fn each_holds<T>(cases: &[T], holds: impl Fn(&T) -> Verdict) -> Verdict {
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| match holds(case) {
            Err(NotPassed::Failed(why) | NotPassed::Skipped(why)) => Some(why),
            Ok(()) => None,
        })
        .collect();
    let (all, first) = (failures.len(), failures.first());
    ensure!(
        all == 0,
        "{all} of {} cases, such as this: {}",
        cases.len(),
        first.map_or("", String::as_str)
    );
    Ok(())
}

fn bad_command_line(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let cases: Cases<'_> = &[
        (&[], &["agentkernel"]),
        (&["rum", "--", "true"], &["rum", "run"]),
        (&["run", "--memroy", "1g", "--", "true"], &["--memroy", "--memory"]),
        (&["run", "-Z", "--", "true"], &["-Z"]),
        (&["run", "--memory"], &["--memory"]),
        (&["run", "--strict=yes", "--", "true"], &["--strict"]),
        (&["doctor", "--jsno"], &["--jsno", "--json"]),
        (&["doctor", "extra"], &["extra"]),
    ];
    each_holds(cases, |(arguments, parts)| {
        let mut command = subject.agentkernel(&scratch);
        command.args(*arguments);
        refused(&Captured::of(command)?, parts).map(drop)
    })
}

fn bad_names(subject: &Subject) -> Verdict {
    let cases: Cases<'_> = &[
        (&["-B", "natvie"], &["natvie", "native"]),
        (&["-B", ""], &[]),
        (&["--profile", "modrate"], &["modrate", "moderate"]),
        (&["--profile", "Moderate"], &["Moderate", "moderate"]),
        (&["--network", "ful"], &["ful", "full"]),
        (&["--network", "allow="], &["allow"]),
        (&["--image", "Hots"], &["Hots", "\"host\""]),
        (&["--image", "./rootfs"], &["./rootfs", "rootfs:DIR"]),
        (&["--image", "rootfs:"], &["rootfs"]),
        (&["--project=.:wr"], &["wr"]),
        (&["-v", ".:/data:wr"], &["wr"]),
        (&["-u", "nobody-that-is-known"], &["nobody-that-is-known"]),
        (&["-u", "1:2:3"], &["1:2:3"]),
        (&["-u", "4294967295"], &["4294967295"]),
        (&["-u", "-1"], &["-1"]),
    ];
    all_refused(subject, &subject.scratch()?, cases)
}

fn missing_capability(subject: &Subject) -> Verdict {
    let flags: [(Capability, &[&str]); 6] = [
        (Capability::NetworkAllow, &["--network", "allow=example.org"]),
        (Capability::NetworkFull, &["--network", "full"]),
        (Capability::Ports, &["-p", "8080:80", "--network", "full"]),
        (Capability::User, &["-u", "0"]),
        (Capability::Terminal, &["-t"]),
        (Capability::MountCopyOnWrite, &["--project=.:cow"]),
    ];
    let mut missing = flags.iter().filter(|(capability, _)| !subject.has(*capability)).peekable();
    if missing.peek().is_none() {
        skip!("{} lacks none of the capabilities that a flag asks for", subject.backend);
    }
    let scratch = subject.scratch()?;
    missing.try_for_each(|(_, flags)| all_refused(subject, &scratch, &[(flags, &[])]))
}

/// Flags that take an amount, with texts that are none.
const NO_AMOUNTS: [(&str, &[&str]); 5] = [
    ("--cpus", &["0", "-1", "0.001", "1e3", "inf", "nan", "two", "", "1.2.3"]),
    ("--memory", &["0", "-1", "1.5g", "99999999999g", "18446744073709551616", "m", "", "1x"]),
    ("--pids", &["0", "-1", "1.5", "4294967296", "18446744073709551616", "many", ""]),
    ("--disk", &["0", "-1", "1.5g", "99999999999g", "18446744073709551616", "g", "", "1x"]),
    ("--timeout", &["0", "-1s", "0s", "1001d", "1y", "soon", "", "s", "99999999999999999999s"]),
];

fn bad_amounts(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let pairs =
        NO_AMOUNTS.iter().flat_map(|(flag, texts)| texts.iter().map(move |text| [*flag, *text]));
    let pairs: Vec<[&str; 2]> = pairs.collect();
    let cases: Vec<(&[&str], &[&str])> = pairs.iter().map(|pair| (&pair[..], &pair[..])).collect();
    all_refused(subject, &scratch, &cases)
}

fn amounts_beyond_the_machine(subject: &Subject) -> Verdict {
    let cases: Cases<'_> = &[
        (&["--cpus", "999"], &["999"]),
        (&["--memory", "1000t"], &["memory"]),
        (&["--pids", "4194305"], &["pids"]),
        (&["--disk", "1000000t"], &["disk"]),
    ];
    // What processors and memory its nodes have, a cluster alone knows.
    let known = if subject.is_clusters() { &cases[2..] } else { cases };
    all_refused(subject, &subject.scratch()?, known)
}

fn bad_paths(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    scratch.file("work/file", "no folder\n")?;
    scratch.folder("work/folder")?;
    let cases: Cases<'_> = &[
        (&["--image", "rootfs:/no/such/image"], &["/no/such/image"]),
        (&["--image", "rootfs:file"], &["file"]),
        (&["--project=/no/such/project"], &["/no/such/project"]),
        (&["--project=file"], &["file"]),
        (&["-v", "/no/such/volume:/data"], &["/no/such/volume"]),
        (&["-v", "folder"], &["folder"]),
        (&["-v", "folder:relative"], &["relative"]),
        (&["-v", "folder:/data/../etc"], &["/data/../etc"]),
        (&["-v", "folder:/data:ro:rw"], &["folder:/data:ro:rw"]),
        (&["-v", ":/data"], &["/data"]),
        (&["-v", "folder:"], &["folder"]),
        (&["-w", "relative"], &["relative"]),
        (&["-w", "/no/such/directory"], &["/no/such/directory"]),
        (&["-w", "/etc/passwd"], &["/etc/passwd"]),
        (&["--env-file", "/no/such/file"], &["/no/such/file"]),
        (&["--env-file", "folder"], &["folder"]),
        (&["--report", "/no/such/folder/report"], &["/no/such/folder/report"]),
        (&["--report", "folder"], &["folder"]),
    ];
    all_refused(subject, &scratch, cases)
}

fn bad_environment(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    scratch.file("work/nameless", "GOOD=1\n=value\n")?;
    scratch.file("work/nul", "GOOD=1\n\nBAD=a\0b\n")?;
    let cases: Cases<'_> = &[
        (&["-e", "=value"], &["-e"]),
        (&["-e", ""], &["-e"]),
        (&["--env-file", "nameless"], &["nameless", "2"]),
        (&["--env-file", "nul"], &["nul", "3"]),
    ];
    all_refused(subject, &scratch, cases)
}

fn bad_settings_file(subject: &Subject) -> Verdict {
    let cases: [(&[u8], &[&str]); 7] = [
        (b"# a comment\n\nmemroy = \"1g\"\n", &["3", "memroy", "memory"]),
        (b"profile = \"moderate\"\nnetwork = \"ful\"\n", &["2", "ful"]),
        (b"cpus = 1\nmemory = \"0\"\n", &["2", "0"]),
        (b"cpus = [1, 2]\n", &["1"]),
        (b"cpus = 1\nmemory = \"unclosed\n", &["2"]),
        (b"cpus = 1\ncpus = 2\n", &["2"]),
        (b"cpus = 1\nimage = \"\xff\"\n", &["2"]),
    ];
    each_holds(&cases, |(text, parts)| {
        let scratch = subject.scratch()?;
        scratch.file("work/agentkernel.toml", text)?;
        let command = subject.run_command(&scratch, &NO_FLAGS, &["echo", "ran"]);
        refused(&Captured::of(command)?, parts)?.mentions("agentkernel.toml").map(drop)
    })?;
    let scratch = subject.scratch()?;
    scratch.folder("work/agentkernel.toml")?;
    let command = subject.run_command(&scratch, &NO_FLAGS, &["echo", "ran"]);
    refused(&Captured::of(command)?, &["agentkernel.toml"])?;
    Ok(())
}

fn bad_settings_variables(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let cases = [
        ("AGENTKERNEL_PROFILE", "modrate", "modrate"),
        ("AGENTKERNEL_MEMORY", "0", "0"),
        ("AGENTKERNEL_MEMROY", "1g", "AGENTKERNEL_MEMORY"),
    ];
    each_holds(&cases, |(name, value, part)| {
        let mut command = subject.run_command(&scratch, &NO_FLAGS, &["echo", "ran"]);
        command.env(name, value);
        refused(&Captured::of(command)?, &[name, part]).map(drop)
    })
}

fn settings_in_order(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let profile = |flags: &[&str], variable: Option<&str>| {
        let report = scratch.path().join("work/report.json");
        let flags = flags.iter().map(OsStr::new);
        let flags: Vec<&OsStr> = flags.chain(["--report".as_ref(), report.as_os_str()]).collect();
        let mut command = subject.run_command(&scratch, &flags, &["true"]);
        command.envs(variable.map(|value| ("AGENTKERNEL_PROFILE", value)));
        Captured::of(command)?.exits(0)?.complains("")?;
        let report = super::report::read(&report)?;
        Ok::<_, NotPassed>(report["profile"].as_str().unwrap_or_default().to_owned())
    };
    let none = profile(&[], None)?;
    scratch.file("work/agentkernel.toml", "profile = \"restrictive\"\n")?;
    // One that is neither the usual one nor the file's, if it can be had.
    let other = if subject.has_permissive() { "permissive" } else { "moderate" };
    let found = [
        none,
        profile(&[], None)?,
        profile(&[], Some(other))?,
        profile(&["--profile", "moderate"], Some("permissive"))?,
    ];
    let expected = ["moderate", "restrictive", other, "moderate"];
    ensure!(found == expected, "nothing, file, variable, flag gave {found:?}, not {expected:?}");
    Ok(())
}

fn no_command(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    // An image may have a command of its own, but not without its entrypoint.
    let run = ["run", "--entrypoint="];
    for arguments in [
        &run[..],
        &["run", "--entrypoint=", "--"],
        &["run", "--memory", "1g", "--entrypoint", "", "--"],
    ] {
        let mut command = subject.agentkernel(&scratch);
        command.args(arguments);
        refused(&Captured::of(command)?, &["command"])?;
    }
    // A command without a name is one that is not there, as for `env`.
    let got = subject.run(&NO_FLAGS, &[""])?;
    got.exits(127)?.prints("")?.mentions("error: ")?.mentions("hint: ")?;
    Ok(())
}

fn report_with_no_room(subject: &Subject) -> Verdict {
    let got = subject.run(&["--report", "/dev/full"], &["true"])?;
    refused(&got, &["/dev/full", "No space left"])?;
    // A report in a place where it can be written is whole, even over an older and longer one.
    let scratch = subject.scratch()?;
    let report = scratch.file("work/report.json", "x".repeat(100_000))?;
    let command = subject.run_command(&scratch, &["--report", "report.json"], &["true"]);
    Captured::of(command)?.exits(0)?;
    super::report::read(&report)?;
    let data = fs::metadata(report)?;
    ensure!(data.len() < 100_000, "the older report was not replaced");
    Ok(())
}

fn output_with_no_room(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for arguments in [&["doctor"][..], &["doctor", "--json"]] {
        let doctor = |stdout: Stdio| -> Result<Captured, NotPassed> {
            let mut doctor = subject.agentkernel(&scratch);
            doctor.args(arguments).stdout(stdout);
            Captured::of(doctor)
        };
        let full = doctor(File::options().write(true).open("/dev/full")?.into())?;
        full.exits(125)?.mentions("error")?.mentions("No space left")?;
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let closed = doctor(writer.into())?;
        // A reader that goes away has seen what it wanted, so the status is of no interest.
        for got in [full, closed] {
            let panicked = got.errors().contains("panicked");
            ensure!(!panicked, "expected a message for people: {got}");
        }
    }
    Ok(())
}
