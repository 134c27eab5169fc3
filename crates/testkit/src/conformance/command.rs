//! What a command is started with: its arguments, environment, directory and user.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use agentkernel_core::Capability;

use crate::{Behaviour, Captured, NO_FLAGS, Route, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "arguments",
        "arguments arrive as they are: empty, with spaces, quotes, newlines, dollars, dashes",
        &[],
        arguments,
    ),
    Behaviour::new(
        "arguments-that-are-no-text",
        "arguments with bytes that are no UTF-8 arrive as they are",
        &[],
        arguments_that_are_no_text,
    ),
    Behaviour::new(
        "many-arguments",
        "a thousand arguments and one of 100 KiB arrive as they are",
        &[],
        many_arguments,
    ),
    Behaviour::new(
        "flags-after-the-command",
        "what follows the command is the command's, even without a double dash before it",
        &[],
        flags_after_the_command,
    )
    .only(Route::Cold, "it is about run's own command line"),
    Behaviour::new(
        "old-habits",
        "flags that people know from elsewhere mean what they mean there",
        &[],
        old_habits,
    ),
    Behaviour::new(
        "environment-is-bare",
        "a command sees PATH, HOME and USER, and no variable of the caller's",
        &[],
        environment_is_bare,
    ),
    Behaviour::new(
        "no-secrets-in-proc",
        "no process of the sandbox shows the caller's environment",
        &[],
        no_secrets_in_proc,
    ),
    Behaviour::new(
        "environment-as-given",
        "-e NAME=VALUE sets a variable, -e NAME copies one, and both win over --env-file",
        &[],
        environment_as_given,
    ),
    Behaviour::new(
        "caller-without-environment",
        "agentkernel needs no variable of its caller",
        &[],
        caller_without_environment,
    )
    .only(Route::Cold, "a sandbox that lives on is found by its caller's home"),
    Behaviour::new(
        "directory",
        "a command starts in its home, or in the directory that was asked for",
        &[],
        directory,
    ),
    Behaviour::new(
        "user",
        "a command runs as the user agent with number 1000, or as the one that was asked for",
        &[Capability::User],
        user,
    ),
    Behaviour::new("home", "the home is /home/agent, private and writable", &[], home),
];

fn arguments(subject: &Subject) -> Verdict {
    let words = [
        "",
        "two words",
        "\ttab",
        "it's",
        "say \"so\"",
        "line\nend\n",
        "$HOME",
        "`id`",
        "$(id)",
        "*",
        "?",
        "~",
        "\\",
        "\\n",
        "-x",
        "--",
        "--memory",
        "a;b",
        "a|b",
        "&",
        ">",
        "#",
        "!",
        "é",
    ];
    prints_its_arguments(subject, &words)
}

/// The arguments come out of `printf`, each with a NUL behind it.
fn prints_its_arguments(subject: &Subject, words: &[impl AsRef<OsStr>]) -> Verdict {
    let words: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
    let argv: Vec<&OsStr> =
        ["printf", "%s\\0"].map(OsStr::new).into_iter().chain(words.iter().copied()).collect();
    let expected: Vec<u8> =
        words.iter().flat_map(|word| [word.as_encoded_bytes(), b"\0"].concat()).collect();
    subject.run(&NO_FLAGS, &argv)?.exits(0)?.prints(expected)?.complains("")?;
    Ok(())
}

fn arguments_that_are_no_text(subject: &Subject) -> Verdict {
    let all: Vec<u8> = (1..=255).collect();
    let words = [vec![0xff], vec![b'a', 0xc3, b'b'], all].map(OsString::from_vec);
    prints_its_arguments(subject, &words)
}

fn many_arguments(subject: &Subject) -> Verdict {
    let words: Vec<String> = (0..1000).map(|number| format!("{number:0500}")).collect();
    prints_its_arguments(subject, &words)?;
    prints_its_arguments(subject, &["x".repeat(100 << 10)])
}

fn flags_after_the_command(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut command = subject.agentkernel(&scratch);
    command.args(["run", "-B", &subject.backend, "echo", "--memory", "-t", "--", "end"]);
    Captured::of(command)?.exits(0)?.prints("--memory -t -- end\n")?.complains("")?;
    Ok(())
}

fn old_habits(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let project = scratch.folder("work/project")?;
    let mut dir = OsString::from("--dir=");
    dir.push(&project);
    let here = format!("{}\n", project.display());
    let user = if subject.has_root() { "--user=0" } else { "--user=1234" };
    let cases: [(&[&OsStr], &str); 4] = [
        (&[&dir], &here),
        (&["-i".as_ref()], "/home/agent\n"),
        (&["--no-network".as_ref()], "/home/agent\n"),
        (&["--workdir=/usr".as_ref(), user.as_ref()], "/usr\n"),
    ];
    // A project is shown as a copy.
    let shows = subject.has(Capability::MountCopyOnWrite);
    for (flags, expected) in cases.into_iter().skip(usize::from(!shows)) {
        let got = Captured::of(subject.run_command(&scratch, flags, &["pwd"]))?;
        got.exits(0)?.prints(expected)?.complains("")?;
    }
    Ok(())
}

fn environment_is_bare(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["env"]);
    command.env("CANARY_TOKEN", "secret").env("AWS_SECRET_ACCESS_KEY", "secret");
    command.env("LD_LIBRARY_PATH", "/nowhere").env("LANG", "C").env("TERM", "dumb");
    let got = Captured::of(command)?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    let mut names: Vec<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    ensure!(names == ["HOME", "PATH", "USER"], "expected HOME, PATH and USER: {got}");
    for line in ["HOME=/home/agent", "USER=agent"] {
        ensure!(text.lines().any(|found| found == line), "expected {line}: {got}");
    }
    Ok(())
}

fn no_secrets_in_proc(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; true";
    for (flags, expected) in [(vec![], false), (vec!["-e", "CANARY_TOKEN"], true)] {
        let mut command = subject.run_command(&scratch, &flags, &["sh", "-c", look]);
        command.env("CANARY_TOKEN", "a-secret-of-the-host");
        let got = Captured::of(command)?;
        let found = got.exits(0)?.text().contains("a-secret-of-the-host");
        ensure!(found == expected, "the secret was given: {expected}, seen: {found}: {got}");
    }
    Ok(())
}

fn environment_as_given(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let lines = "# a comment\n\nFROM_FILE=file\nBOTH=file\nCOPIED=file\nSPACED=two words\n";
    let file = scratch.file("work/variables", lines)?;
    let flags: Vec<&OsStr> = [
        "-e",
        "BOTH=flag",
        "-e",
        "COPIED",
        "-e",
        "MISSING",
        "-e",
        "EMPTY=",
        "-e",
        "EQUALS=a=b=c",
        "-e",
        "LINES=one\ntwo",
        "-e",
        "HOME=/tmp",
        "-e",
        "TWICE=1",
        "-e",
        "TWICE=2",
        "--env-file",
    ]
    .map(OsStr::new)
    .into_iter()
    .chain([file.as_os_str()])
    .collect();
    let mut command = subject.run_command(&scratch, &flags, &["env", "-0"]);
    command.env("COPIED", "caller");
    let got = Captured::of(command)?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    let variables: Vec<_> = text.split_terminator('\0').collect();
    for expected in [
        "FROM_FILE=file",
        "BOTH=flag",
        "COPIED=caller",
        "EMPTY=",
        "EQUALS=a=b=c",
        "LINES=one\ntwo",
        "HOME=/tmp",
        "TWICE=2",
        "SPACED=two words",
    ] {
        ensure!(variables.contains(&expected), "expected {expected:?}: {got}");
    }
    let missing = variables.iter().any(|variable| variable.starts_with("MISSING"));
    ensure!(!missing, "a variable that the caller lacks was made up: {got}");
    Ok(())
}

fn caller_without_environment(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", "echo \"$HOME\""]);
    command.env_clear().envs(subject.engine());
    Captured::of(command)?.exits(0)?.prints("/home/agent\n")?.complains("")?;
    Ok(())
}

fn directory(subject: &Subject) -> Verdict {
    let cases: [(&[&str], &str); 4] = [
        (&[], "/home/agent\n"),
        (&["-w", "/usr/bin"], "/usr/bin\n"),
        (&["-w", "/tmp"], "/tmp\n"),
        (&["-w", "/"], "/\n"),
    ];
    for (flags, expected) in cases {
        subject.run(flags, &["pwd"])?.exits(0)?.prints(expected)?.complains("")?;
    }
    Ok(())
}

fn user(subject: &Subject) -> Verdict {
    let cases: [(&[&str], &str); 5] = [
        (&[], "1000 1000"),
        (&["-u", "agent"], "1000 1000"),
        (&["-u", "0"], "0 0"),
        (&["-u", "1234"], "1234 1234"),
        (&["-u", "1234:4321"], "1234 4321"),
    ];
    let root = subject.has_root();
    for (flags, expected) in cases.into_iter().filter(|(_, expected)| root || *expected != "0 0") {
        let got = subject.shell(flags, "echo $(id -u) $(id -g); id -G >&2")?;
        got.exits(0)?.prints(format!("{expected}\n"))?;
        let group = expected.split(' ').next_back().unwrap_or_default();
        let errors = got.errors();
        let mut groups = errors.split_whitespace();
        ensure!(groups.all(|found| found == group), "expected no group but {group}: {got}");
    }
    subject.run(&NO_FLAGS, &["id", "-un"])?.exits(0)?.prints("agent\n")?;
    let got = subject.run(&["-u", "nobody-that-is-known"], &["id"])?;
    got.exits(125)?.prints("")?.mentions("error: ")?.mentions("nobody-that-is-known")?;
    got.mentions("hint: ")?;
    Ok(())
}

fn home(subject: &Subject) -> Verdict {
    let script = "ls -A ~; echo kept > ~/file && mkdir ~/.cache && cat ~/file; \
                  stat -c '%a %u:%g' ~";
    let got = subject.shell(&NO_FLAGS, script)?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    let mode = text.strip_prefix("kept\n").and_then(|rest| rest.strip_suffix(" 1000:1000\n"));
    ensure!(mode.is_some_and(|mode| mode.starts_with("7")), "the home is not agent's own: {got}");
    Ok(())
}
