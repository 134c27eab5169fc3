//! A place of an engine whose machine can't run the agent: its commands are the engine's own `exec`.
//!
//! The agent is here, in the bridge, and serves links as one in the place would; so to all others it
//! is a far place like any other. What it does with each order is:
//!
//! - **Process 1** is the engine's own init, and its only child the image's shell, which reads the
//!   stream that the bridge holds open until that ends. So the container ends with its bridge.
//! - **A start** is an `exec` of the image's shell, which tells its number on a private first line and
//!   then becomes the program ([`script`]).
//! - **A signal** is another `exec`, as the same user, whose shell sends it to that number: the API has
//!   no signal for an `exec`, and the numbers that it tells are those of the engine's machine. A command
//!   that can't be killed like this, as where no more processes may be made, is killed with all else.
//! - **A pause** is the engine's.
//!
//! What it can't do it refuses, as a far place does. Nor does an engine tell how much a command has
//! used, and of its death by a signal only the status that shells have for that.

mod agent;
mod command;
mod engine;
mod image;
mod link;
mod script;
mod stream;
mod target;

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use agentkernel_containers::{Setting, walls as walls_of_containers};
use agentkernel_core::{BootError, LimitInForce, Limited, Network, Wall};
use agentkernel_far::{Stream, word};
use agentkernel_mux::Inner;
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::models::SystemInfo;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::client::{Client, failed, words};
use agent::{Agent, Term};
use engine::Engine;

/// The shell that all of this takes, and what makes a program's variables.
pub const SHELL: &str = "/bin/sh";
const ENV: &str = "/usr/bin/env";

/// What the child of process 1 does: it opens the private directories to all, to which engines give the
/// permissions of the image's that they hide, says that it is there, and waits for the end of the stream.
/// Commands that run as root could end it by a signal to everybody.
pub const HOLD: &str = "trap '' HUP INT QUIT TERM USR1 USR2; chmod 1777 /tmp /run 2>/dev/null; \
                        echo ready; while read -r line; do :; done";

/// How long the booter may take for a word.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long what is left to be said at the end may take.
const LAST: Duration = Duration::from_secs(10);

/// The machine of an engine, if the agent's program is for another one. What an image is for is no
/// matter: whether its programs run is the machine's to say.
pub fn foreign_machine(info: &SystemInfo) -> Option<String> {
    let machine = info.architecture.as_deref().filter(|machine| !machine.is_empty())?;
    // Docker says it as the kernel does, Podman as its compiler.
    let as_ours = match machine {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "i386" | "i686" | "386" => "x86",
        "armv7l" | "armv6l" => "arm",
        "ppc64le" | "ppc64" => "powerpc64",
        other => other,
    };
    (as_ours != env::consts::ARCH).then(|| machine.to_owned())
}

/// What is told of a place like this.
pub fn note(machine: &str) -> String {
    format!(
        "commands are the engine's own exec, since the agent is for {} and the engine's machine is \
         {machine}: each takes an exec's time, what it has used is not known, and a death by a signal \
         is told as a status",
        env::consts::ARCH
    )
}

/// The walls around such a place: what the agent would do to each command nobody does.
pub fn walls(network: &Network, own_users: bool) -> Vec<Wall> {
    let missing = "the agent does not run there, and commands are the engine's own exec";
    let mut walls = walls_of_containers(network, own_users, Some(missing));
    if let Some(wall) = walls.iter_mut().find(|wall| wall.name == "seccomp") {
        wall.missing = Some(format!("{missing}: only the engine's own filter is in force"));
    }
    walls
}

/// What has no control group can't be had otherwise.
pub fn without_nearest(limits: Vec<LimitInForce>) -> Vec<LimitInForce> {
    let only_groups = |limit: LimitInForce| match limit.by {
        Limited::Nearly { why, .. } => LimitInForce { by: Limited::Nowise { why }, ..limit },
        _ => limit,
    };
    limits.into_iter().map(only_groups).collect()
}

/// Whether an engine's containers have users of their own.
pub fn has_own_users(info: &SystemInfo) -> bool {
    let options = info.security_options.as_deref().unwrap_or_default();
    options.iter().any(|option| option.contains("rootless") || option.contains("userns"))
}

impl Client {
    pub fn info(&self) -> Result<SystemInfo, BootError> {
        let told = self.runtime.block_on(self.docker.info());
        told.map_err(|error| {
            failed(format!("{} does not tell what it can", self.product.title), &error)
        })
    }
}

/// Serves the container `name` as its agent, to whom `held` leads, at the other end of the stream that
/// this returns.
pub fn open(client: Client, name: &str, held: AttachContainerResults) -> Result<Stream, io::Error> {
    let (ours, theirs) = socket::pair()?;
    let (errors, errors_to) = descriptor::pipe()?;
    let input = theirs.try_clone()?;
    let name = name.to_owned();
    thread::Builder::new().name("agent".into()).spawn(move || {
        let mut errors = File::from(errors_to);
        if let Err(error) = serve(client, name, held, ours, &mut errors) {
            let _ = write!(errors, "agentkernel: the sandbox can't be served: {error}");
        }
    })?;
    Ok(Stream { input, output: theirs, errors: Some(errors) })
}

/// Serves the place to its end. What it has to say last goes to `last`, whose end is the place's.
fn serve(
    client: Client,
    name: String,
    mut held: AttachContainerResults,
    stream: OwnedFd,
    last: &mut File,
) -> io::Result<()> {
    let about = image::about(&client, &name)?;
    word::write(stream.as_fd(), &about)?;
    let setting: Setting = word::read(stream.as_fd(), PATIENCE)?;
    image::settle(&client, &name, &setting.user, &about.about)?;
    client.runtime.block_on(await_hold(&mut held))?;
    let (link, first) = socket::pair()?;
    let (quit, hold) = descriptor::pipe()?;
    let (come, clients) = mpsc::unbounded_channel();
    let inner = Inner::beside(stream.try_clone()?, stream, first)?;
    let shared = setting.listener;
    let links = thread::Builder::new().name("links".into());
    let links = links.spawn(move || carry_links(inner, &come, &quit, shared))?;
    let Client { runtime, docker, host, .. } = client;
    let engine = Engine::new(docker, host, name)?;
    let ms = |ms: Option<u64>| ms.map(Duration::from_millis);
    let term = Term { ttl: ms(setting.ttl_ms), idle: ms(setting.idle_ms) };
    let Ok(fate) = runtime.block_on(Agent::serve(engine, term, link, clients, held)) else {
        // Nobody may take it for dead that does not die. The booter tries that again, or it ends with
        // this process.
        loop {
            thread::park();
        }
    };
    // All links go with what serves them.
    drop(runtime);
    if let (Some(fate), true) = (fate, setting.fate) {
        // Whoever misses the reason sees that it has ended all the same.
        let _ = last.write_all(fate.as_bytes());
    }
    // What was said on them is passed on.
    drop(hold);
    let _ = links.join();
    Ok(())
}

/// Waits until the child of process 1 is there.
async fn await_hold(held: &mut AttachContainerResults) -> io::Result<()> {
    match timeout(PATIENCE, held.output.next()).await? {
        Some(Ok(LogOutput::StdOut { message })) if &*message == b"ready\n" => Ok(()),
        // Such as what the engine's init has to say of the image's shell.
        Some(Ok(said)) => Err(io::Error::other(said.to_string())),
        Some(Err(error)) => Err(io::Error::other(words(&error))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Carries links between the stream and the agent, until either has ended.
fn carry_links(
    mut inner: Inner,
    come: &mpsc::UnboundedSender<OwnedFd>,
    quit: &OwnedFd,
    shared: bool,
) {
    loop {
        let mut others = [Interest::readable(quit.as_fd())];
        // A stream that talks nonsense has ended.
        let going = inner.poll(&mut others, None).unwrap_or(false);
        for client in inner.clients().into_iter().filter(|_| shared) {
            // An agent that has ended takes nobody.
            let _ = come.send(client);
        }
        if others[0].is_ready() {
            return finish(&mut inner);
        }
        if !going {
            return;
        }
    }
}

/// Passes on what is left to be said.
fn finish(inner: &mut Inner) {
    let until = Instant::now() + LAST;
    while !inner.is_finished() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || !inner.poll(&mut [], Some(left)).unwrap_or(false) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_foreign_by_what_the_engine_says_of_it() {
        let of = |machine: &str| {
            let architecture = Some(machine.to_owned());
            foreign_machine(&SystemInfo { architecture, ..Default::default() })
        };
        let own = env::consts::ARCH;
        assert_eq!(of(own), None);
        assert_eq!(of("s390x").as_deref(), Some("s390x"));
        assert_eq!(of(""), None);
        assert_eq!(foreign_machine(&SystemInfo::default()), None);
        let dockers = [("amd64", "x86_64"), ("arm64", "aarch64")];
        for (word, machine) in dockers {
            assert_eq!(of(word).is_none(), machine == own, "{word}");
        }
    }
}
