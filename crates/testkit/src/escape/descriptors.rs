//! Descriptors that the caller had open, its streams and its working directory.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use agentkernel_core::Capability::{MountReadOnly, MountReadWrite, NetworkNone};

use super::attempt::{Attempt, control_finds};
use super::probe::{self, Finding, judge};
use super::scene::{open_file, open_folder, volume};
use crate::{Behaviour, Caller, Captured, NotPassed, Running, Scratch, Subject, Verdict};
use crate::{ensure, known_limit};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "find-leaked-descriptors",
        "no descriptor of the caller's but the three streams is open",
        &[MountReadOnly],
        find_leaked_descriptors,
    ),
    Behaviour::new(
        "find-descriptors-in-place-of-streams",
        "where the caller's streams are closed, nothing of agentkernel's is in their place",
        &[MountReadOnly],
        find_descriptors_in_place_of_streams,
    ),
    Behaviour::new(
        "read-the-callers-working-directory",
        "the directory in which agentkernel was started is not the command's",
        &[MountReadOnly],
        read_the_callers_working_directory,
    ),
    Behaviour::new(
        "start-in-a-leaked-directory",
        "no working directory leads through a descriptor of agentkernel's to the host",
        &[MountReadOnly],
        start_in_a_leaked_directory,
    ),
    Behaviour::new(
        "reopen-an-inherited-file",
        "a file that is a stream of the caller's can't be reopened, changed or read",
        &[MountReadOnly],
        reopen_an_inherited_file,
    ),
    Behaviour::new(
        "use-a-folder-as-input",
        "a folder that is the caller's input does not become the command's",
        &[MountReadOnly],
        use_a_folder_as_input,
    ),
    Behaviour::new(
        "join-a-namespace-by-input",
        "a namespace that is the caller's input can't be joined",
        &[MountReadOnly],
        join_a_namespace_by_input,
    ),
    Behaviour::new(
        "read-back-the-callers-output",
        "what others wrote into the caller's output pipe can't be taken out of it",
        &[MountReadOnly],
        read_back_the_callers_output,
    ),
    Behaviour::new(
        "reconnect-an-inherited-socket",
        "a socket that is the caller's input leads to no other place in the caller's network",
        &[MountReadOnly, NetworkNone],
        reconnect_an_inherited_socket,
    ),
    Behaviour::new(
        "leave-the-output-with-someone",
        "a run ends with its command, even if someone outside was given its streams",
        &[MountReadOnly, MountReadWrite],
        leave_the_output_with_someone,
    ),
    Behaviour::new(
        "open-below-a-handed-folder",
        "a folder handed in over a socket stays closed below",
        &[MountReadOnly, MountReadWrite],
        open_below_a_handed_folder,
    ),
];

/// A folder of the host's with a secret in it.
fn secret_folder(scratch: &Scratch) -> Result<PathBuf, NotPassed> {
    let folder = open_folder(scratch, "outside")?;
    open_file(scratch, "outside/secret", "a secret\n")?;
    Ok(folder)
}

/// The command with descriptors 3 to 9 open: a folder, a file and the root, in turn.
fn leaking(caller: Caller, folder: &Path, command: &Command) -> Command {
    let script = "d=$1; shift; exec 3<$d 4<$d/secret 5<>$d/secret 6</ 7<$d 8<$d 9<$d; exec \"$@\"";
    let folder = folder.to_string_lossy();
    caller.through(&["sh", "-c", script, "sh", &folder], command)
}

fn find_leaked_descriptors(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = secret_folder(&scratch)?;
    let name = "find-open-descriptors";
    let command = Attempt::new(name).command(subject, &scratch)?;
    judge(&Captured::of(leaking(subject.caller, &folder, &command))?)?;
    let command = probe::outside(Caller::Me, &scratch, &[name])?;
    let control = Captured::of(leaking(Caller::Me, &folder, &command))?;
    control_finds(name, &control)
}

/// Where the caller has a standard stream closed, the next file that agentkernel opens gets its
/// number.
fn find_descriptors_in_place_of_streams(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for script in ["\"$@\" <&-", "\"$@\" 2>&-", "\"$@\" <&- 2>&-"] {
        let attempt = Attempt::new("find-open-descriptors");
        let command = attempt.command(subject, &scratch)?;
        let command = subject.caller.through(&["sh", "-c", script, "sh"], &command);
        let got = Captured::of(command)?;
        judge(&got).map_err(|why| why.within(script))?;
    }
    Ok(())
}

fn read_the_callers_working_directory(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = secret_folder(&scratch)?;
    let mut command = Attempt::new("climb-out").words(&["secret"]).command(subject, &scratch)?;
    command.current_dir(&folder);
    judge(&Captured::of(command)?)?;
    let mut control = probe::outside(Caller::Me, &scratch, &["climb-out", "secret"])?;
    control.current_dir(&folder);
    control_finds("climb-out", &Captured::of(control)?)
}

/// A refusal by agentkernel before anything was started is as good as a wall that held.
fn refused_or_held(got: &Captured) -> Verdict {
    let code = got.status.code().unwrap_or_default();
    if (125..=127).contains(&code) && Finding::of(&got.text()) == Finding::Missing {
        return got.prints("")?.mentions("error").map(drop);
    }
    judge(got)
}

fn start_in_a_leaked_directory(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = secret_folder(&scratch)?;
    let numbered = (3..=9).map(|number| format!("/proc/self/fd/{number}"));
    let named = ["/proc/self/cwd", "/proc/1/cwd", "/proc/1/root", "/proc/self/fd/6/proc/self/cwd"];
    for directory in numbered.chain(named.map(String::from)) {
        let attempt = Attempt::new("climb-out").words(&["secret"]).flags(&["-w", &directory]);
        let mut command = attempt.command(subject, &scratch)?;
        command.current_dir(&folder);
        let got = Captured::of(leaking(subject.caller, &folder, &command))?;
        refused_or_held(&got)?;
    }
    Ok(())
}

fn appending(path: &Path) -> Result<File, NotPassed> {
    Ok(OpenOptions::new().append(true).open(path)?)
}

/// Runs `command` with files as its streams, which all say `precious` before; gives back what
/// they say afterwards.
fn with_files(mut command: Command, scratch: &Scratch) -> Result<[String; 3], NotPassed> {
    let names = ["input", "output", "errors"];
    let paths = names.map(|name| scratch.path().join(name));
    for name in names {
        open_file(scratch, name, "precious\n")?;
    }
    let [input, output, errors] = &paths;
    command
        .stdin(OpenOptions::new().read(true).write(true).open(input)?)
        .stdout(appending(output)?)
        .stderr(appending(errors)?);
    Captured::of(command)?;
    let [input, output, errors] = paths.map(fs::read_to_string);
    Ok([input?, output?, errors?])
}

fn reopen_an_inherited_file(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let command = Attempt::new("reopen-streams").command(subject, &scratch)?;
    let [input, output, errors] = with_files(command, &scratch)?;
    let held = matches!(Finding::of(&output), Finding::Held(_));
    ensure!(held, "output {output:?}, errors {errors:?}");
    ensure!(input == "precious\n", "the input file has become {input:?}");
    for text in [output, errors] {
        ensure!(text.starts_with("precious\n"), "an output file has become {text:?}");
    }
    let command = probe::outside(Caller::Me, &scratch, &["reopen-streams"])?;
    let [input, ..] = with_files(command, &scratch)?;
    ensure!(input != "precious\n", "the control changed nothing");
    Ok(())
}

fn use_a_folder_as_input(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = secret_folder(&scratch)?;
    let name = "use-a-folder-descriptor";
    let mut command = Attempt::new(name).words(&["0", "secret"]).command(subject, &scratch)?;
    command.stdin(File::open(&folder)?);
    refused_or_held(&Captured::of(command)?)?;
    let mut control = probe::outside(Caller::Me, &scratch, &[name, "0", "secret"])?;
    control.stdin(File::open(&folder)?);
    control_finds(name, &Captured::of(control)?)
}

fn join_a_namespace_by_input(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for kind in ["net", "mnt", "user", "pid"] {
        let namespace = || File::open(format!("/proc/self/ns/{kind}"));
        let mut command = Attempt::new("join-by-input").command(subject, &scratch)?;
        command.stdin(namespace()?);
        refused_or_held(&Captured::of(command)?)?;
        let mut control = probe::outside(Caller::Me, &scratch, &["join-by-input"])?;
        control.stdin(namespace()?);
        control_finds("join-by-input", &Captured::of(control)?)?;
    }
    Ok(())
}

/// Runs `command` with a pipe of the caller's as output in which there is something already.
fn with_a_used_pipe(caller: Caller, mut command: Command) -> Result<String, NotPassed> {
    let (mut reader, mut writer) = std::io::pipe()?;
    fchown(&writer, Some(caller.uid()), Some(caller.gid()))?;
    writer.write_all(b"a secret\n")?;
    command.stdout(writer);
    Running::start(command)?.finish()?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    Ok(text)
}

fn read_back_the_callers_output(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let name = "read-back-own-output";
    let text = with_a_used_pipe(subject.caller, Attempt::new(name).command(subject, &scratch)?)?;
    let held = matches!(Finding::of(&text), Finding::Held(_)) && text.starts_with("a secret\n");
    let pipe_kept = || -> Verdict {
        ensure!(held, "the pipe had only {text:?}");
        Ok(())
    };
    let verdict = pipe_kept();
    let text = with_a_used_pipe(Caller::Me, probe::outside(Caller::Me, &scratch, &[name])?)?;
    ensure!(!text.starts_with("a secret\n"), "the control took nothing: {text:?}");
    match subject.caller.uid() {
        0 => verdict,
        _ => known_limit(verdict, "an ordinary caller's pipe is the sandbox user's own"),
    }
}

fn open_below_a_handed_folder(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let folder = secret_folder(&scratch)?;
    let shared = open_folder(&scratch, "shared")?;
    let name = "open-below-a-handed-folder";
    let meet = |socket: &Path| {
        let words = [Path::new("hand-a-folder-over"), socket, &folder];
        let mut giving = Running::start(probe::outside(Caller::Me, &scratch, &words)?)?;
        giving.until("there\n")?;
        Ok::<_, NotPassed>(giving)
    };
    let giving = meet(&shared.join("inside"))?;
    let attempt = Attempt::new(name)
        .words(&["/shared/inside", "secret"])
        .flags(&volume(&shared, "/shared", "rw"));
    judge(&attempt.inside(subject, &scratch)?)?;
    judge(&giving.finish()?)?;
    let socket = shared.join("outside");
    let giving = meet(&socket)?;
    let words = [Path::new(name), &socket, Path::new("secret")];
    let control = Captured::of(probe::outside(Caller::Me, &scratch, &words)?)?;
    giving.finish()?;
    control_finds(name, &control)
}

/// A TCP connection and a UDP socket, each connected to someone, as a network service starts its
/// programs.
fn sockets_of_services() -> Result<[OwnedFd; 2], NotPassed> {
    let client = TcpListener::bind("127.0.0.1:0")?;
    let connection = TcpStream::connect(client.local_addr()?)?;
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    let datagrams = UdpSocket::bind("127.0.0.1:0")?;
    datagrams.connect(peer.local_addr()?)?;
    Ok([connection.into(), datagrams.into()])
}

fn reconnect_an_inherited_socket(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let victim = TcpListener::bind("127.0.0.1:0")?;
    let port = victim.local_addr()?.port().to_string();
    let name = "reconnect-the-input";
    for socket in sockets_of_services()? {
        let attempt = Attempt::new(name).words(&["127.0.0.1", &port]);
        let mut command = attempt.command(subject, &scratch)?;
        command.stdin(socket);
        refused_or_held(&Captured::of(command)?)?;
    }
    for socket in sockets_of_services()? {
        let words = [name, "127.0.0.1", &port];
        let mut control = probe::outside(Caller::Me, &scratch, &words)?;
        control.stdin(socket);
        control_finds(name, &Captured::of(control)?)?;
    }
    Ok(())
}

fn leave_the_output_with_someone(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let shared = open_folder(&scratch, "shared")?;
    let socket = shared.join("socket");
    let mut keep = probe::outside(Caller::Me, &scratch, &[Path::new("keep-descriptors"), &socket])?;
    keep.stdin(Stdio::piped());
    let mut keeping = Running::start(keep)?;
    keeping.until("there\n")?;
    let attempt = Attempt::new("leave-the-output-with-someone")
        .words(&["/shared/socket"])
        .flags(&volume(&shared, "/shared", "rw"));
    let output = open_file(&scratch, "output", "")?;
    let mut command = attempt.command(subject, &scratch)?;
    // A file is not handed over as it is, so it is agentkernel that waits for the end of output.
    command.stdout(appending(&output)?).stderr(Stdio::null());
    let mut running = Running::start(command)?.within(Duration::from_secs(5));
    let ended = running.wait();
    if let Some(mut stdin) = keeping.take_stdin() {
        stdin.write_all(b"done\n")?;
    }
    keeping.finish()?;
    ended?;
    let held = matches!(Finding::of(&fs::read_to_string(&output)?), Finding::Held(_));
    ensure!(held, "no attempt was made");
    Ok(())
}
