//! A bridge over an engine's own attached stream.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::pin::pin;
use std::process::Command;
use std::thread;
use std::time::Duration;

use agentkernel_containers::Product;
use agentkernel_far::{Stream, carry};
use agentkernel_sys::{descriptor, process};
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::AttachContainerOptionsBuilder;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::own_exec;
use crate::client::{Client, words};

/// How long the engine may take to see a place's end whose stream has ended.
const DEATH: Duration = Duration::from_secs(10);

/// The word that follows a product's name for one whose places have no agent of their own.
pub const EXEC: &str = "exec";

/// This program, as a bridge.
pub fn program(product: &Product, own_exec: bool) -> Command {
    let mut program = Command::new("/proc/self/exe");
    // Whose it is, for people who look at the list of processes.
    program.arg0("agentkerneld").args(["bridge", product.name]).current_dir("/");
    program.args(own_exec.then_some(EXEC));
    program
}

/// Serves as a bridge, to the end of the place.
pub fn bridge(product: &'static Product, is_exec: bool) -> std::io::Result<()> {
    // A terminal's signals are not for those who outlive it.
    process::new_session()?;
    // Its own connections can be made before anybody says where to.
    let client = Client::connect(product);
    carry(|place| {
        let client = client.map_err(|error| error.to_string())?;
        let attached = attach(&client, place)?;
        match is_exec {
            true => own_exec::open(client, place, attached),
            false => open(client, attached),
        }
        .map_err(|error| format!("can't make a way for the stream: {error}"))
    })
}

/// Attaches to a container, which need not run yet.
fn attach(client: &Client, name: &str) -> Result<AttachContainerResults, String> {
    let options = AttachContainerOptionsBuilder::new()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        // No bytes of the stream are for the engine.
        .detach_keys("")
        .build();
    let attached = client.docker.attach_container(name, Some(options));
    client.runtime.block_on(attached).map_err(|error| words(&error))
}

/// Makes a stream of what is attached.
fn open(client: Client, attached: AttachContainerResults) -> std::io::Result<Stream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (errors, errors_to) = descriptor::pipe()?;
    let input = OwnedFd::from(theirs.try_clone()?);
    thread::Builder::new().name("pump".into()).spawn(move || {
        client.runtime.block_on(async {
            if let Ok(ours) = UnixStream::from_std(ours) {
                pump(attached, ours, File::from(errors_to)).await;
            }
        });
    })?;
    Ok(Stream { input, output: theirs.into(), errors: Some(errors) })
}

/// Passes bytes on both ways, to the end of the place. `errors` is closed then.
async fn pump(attached: AttachContainerResults, ours: UnixStream, mut errors: File) {
    let AttachContainerResults { mut output, mut input } = attached;
    let (mut from_outer, mut to_outer) = ours.into_split();
    let inward = pin!(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_outer.read(&mut buffer).await {
            if input.write_all(&buffer[..read]).await.is_err() || input.flush().await.is_err() {
                return;
            }
        }
        // So the place ends, if it is still there.
        let _ = input.shutdown().await;
    });
    let outward = pin!(async move {
        while let Some(Ok(piece)) = output.next().await {
            match piece {
                LogOutput::StdErr { message } => drop(errors.write_all(&message)),
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    // What nobody takes any more is followed by an end all the same.
                    let _ = to_outer.write_all(&message).await;
                }
                LogOutput::StdIn { .. } => {}
            }
        }
    });
    if let Either::Left(((), outward)) = select(inward, outward).await {
        let _ = timeout(DEATH, outward).await;
    }
}
