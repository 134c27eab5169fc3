//! One exec that is held open: a WebSocket of JSON frames, with bytes in base64.
//!
//! An exec's process is there before anything says so; what says so is the agent, which speaks first.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};
use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::client::{Client, EXEC, headers, quoted, uri};
use crate::connection::{self, Stream};
use crate::error::ApiError;
use crate::job::TASK;
use crate::words::Frame;

/// How long the other end may take to agree to a WebSocket.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a process may take to end whose stream has ended.
const DEATH: Duration = Duration::from_secs(10);

/// How often Nomad is told that somebody is still there, as its own program does.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How many bytes go into one frame: whole groups of base64.
const PIECE: usize = 48 << 10;

/// No frame is longer. Nomad's have a kilobyte or two.
const LONGEST: usize = 1 << 20;

pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// Starts `command` in the task of an allocation.
pub async fn open(client: &Client, allocation: &str, command: &[&str]) -> Result<Socket, ApiError> {
    let settings = &client.settings;
    let unreachable =
        |source| ApiError::Unreachable { address: settings.address.to_string(), source };
    let words = serde_json::to_string(command).map_err(|error| ApiError::garbled(EXEC, &error))?;
    let path = format!("/v1/client/allocation/{}/exec", quoted(allocation));
    let query = [("task", TASK), ("tty", "false"), ("command", &*words)];
    let mut request = Request::builder()
        // Whatever it is served by, and by whatever name.
        .uri(format!("ws://nomad{}", uri(settings, &path, &query)))
        .header("Host", "nomad")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key());
    for (name, value) in headers(settings) {
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(|error| ApiError::garbled(EXEC, &error))?;
    let stream = connection::open(settings).await.map_err(unreachable)?;
    let config =
        WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let agreed = timeout(PATIENCE, client_async_with_config(request, stream, Some(config))).await;
    match agreed {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(answer))) => {
            let words = answer.body().as_deref().unwrap_or_default();
            let words = String::from_utf8_lossy(words);
            Err(client.refused(EXEC, answer.status().as_u16(), &words))
        }
        Ok(Err(error)) => Err(unreachable(io::Error::other(error))),
        Err(_) => Err(unreachable(io::ErrorKind::TimedOut.into())),
    }
}

/// What Nomad says when it ends a WebSocket of its own accord: permissions are looked at only then.
fn refusal(client: &Client, close: Option<CloseFrame>) -> Option<String> {
    const POLICY: u16 = 1008;
    let close = close?;
    if close.reason.is_empty() {
        return None;
    }
    // It has no status of its own there.
    let status = if u16::from(close.code) == POLICY { 400 } else { 500 };
    let error = client.refused(EXEC, status, &close.reason).into_boot_error();
    Some(match error {
        agentkernel_core::BootError::Refused { why, fix } => format!("{why}; {fix}"),
        other => other.to_string(),
    })
}

/// Passes bytes on both ways, to the end of the process. What is in `first` goes before all else.
/// `errors` is closed then. When `quit` can be read the stream into the process ends.
pub async fn pump(
    client: &Client,
    socket: Socket,
    first: Vec<u8>,
    ours: StdUnixStream,
    mut errors: File,
    quit: StdUnixStream,
) -> io::Result<()> {
    ours.set_nonblocking(true)?;
    let (mut from_outer, mut to_outer) = UnixStream::from_std(ours)?.into_split();
    quit.set_nonblocking(true)?;
    let quit = UnixStream::from_std(quit)?;
    let (mut sink, mut source) = socket.split();
    let inward = pin!(async {
        for piece in first.chunks(PIECE) {
            sink.send(stdin(piece)).await?;
        }
        drop(first);
        let mut buffer = vec![0; PIECE];
        let mut beat = interval(HEARTBEAT);
        loop {
            let read = {
                let read = pin!(from_outer.read(&mut buffer));
                let quit = pin!(quit.readable());
                let read = select(read, quit);
                match select(read, pin!(beat.tick())).await {
                    Either::Left((Either::Left((read, _)), _)) => Some(read.unwrap_or(0)),
                    Either::Left((Either::Right(_), _)) => Some(0),
                    Either::Right(_) => None,
                }
            };
            match read {
                Some(0) => break,
                Some(read) => sink.send(stdin(&buffer[..read])).await?,
                None => sink.send(Message::text("{}")).await?,
            }
        }
        // So the place ends, if it is still there.
        sink.send(Message::text(r#"{"stdin":{"close":true}}"#)).await
    });
    let outward = pin!(async {
        while let Some(Ok(message)) = source.next().await {
            let frame = match message {
                Message::Text(text) => serde_json::from_str::<Frame>(&text),
                Message::Binary(bytes) => serde_json::from_slice::<Frame>(&bytes),
                Message::Close(close) => {
                    if let Some(why) = refusal(client, close) {
                        let _ = errors.write_all(why.as_bytes());
                    }
                    break;
                }
                _ => continue,
            };
            // What makes no sense is of nobody who could be understood.
            let Ok(frame) = frame else { break };
            if let Some(piece) = frame.stderr
                && let Ok(bytes) = STANDARD.decode(piece.data)
            {
                let _ = errors.write_all(&bytes);
            }
            if let Some(piece) = frame.stdout {
                let Ok(bytes) = STANDARD.decode(piece.data) else { break };
                // What nobody takes any more is followed by an end all the same.
                let _ = to_outer.write_all(&bytes).await;
            }
            if frame.exited {
                break;
            }
        }
    });
    if let Either::Left((_, outward)) = select(inward, outward).await {
        let _ = timeout(DEATH, outward).await;
    }
    Ok(())
}

fn stdin(bytes: &[u8]) -> Message {
    const BEFORE: &str = r#"{"stdin":{"data":""#;
    const AFTER: &str = r#""}}"#;
    let mut text = String::with_capacity(BEFORE.len() + bytes.len().div_ceil(3) * 4 + AFTER.len());
    text.push_str(BEFORE);
    STANDARD.encode_string(bytes, &mut text);
    text.push_str(AFTER);
    Message::text(text)
}
