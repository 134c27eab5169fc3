//! One exec that is held open: a WebSocket of JSON frames, with bytes in base64.
//!
//! An exec's process is there before anything says so; what says so is the agent, which speaks first.

use std::io;
use std::time::Duration;

use agentkernel_far::told;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::client::{Client, EXEC, headers, quoted, uri};
use crate::connection::{self, Stream};
use crate::error::ApiError;
use crate::job::TASK;
use crate::words::{Frame, Piece};

/// How long the other end may take to agree to a WebSocket.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many bytes go into one frame: whole groups of base64.
pub const PIECE: usize = 48 << 10;

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
    Some(told(client.refused(EXEC, status, &close.reason).into_boot_error()))
}

/// What has come of an exec.
pub enum Heard {
    Said {
        out: Vec<u8>,
        besides: Vec<u8>,
    },
    /// Its process has ended, with this status.
    Exited(i32),
    /// The stream has ended, for this reason if Nomad has told one.
    Closed(Option<String>),
    Nothing,
}

/// Makes sense of what has come by its socket.
pub fn heard(client: &Client, message: Option<Result<Message, Error>>) -> Heard {
    let frame = match message {
        Some(Ok(Message::Text(text))) => serde_json::from_str::<Frame>(&text),
        Some(Ok(Message::Binary(bytes))) => serde_json::from_slice::<Frame>(&bytes),
        Some(Ok(Message::Close(close))) => return Heard::Closed(refusal(client, close)),
        Some(Ok(_)) => return Heard::Nothing,
        Some(Err(_)) | None => return Heard::Closed(None),
    };
    // What makes no sense is of nobody who could be understood.
    let Ok(frame) = frame else { return Heard::Closed(None) };
    let bytes = |piece: Option<Piece>| STANDARD.decode(piece.unwrap_or_default().data);
    let (Ok(out), Ok(besides)) = (bytes(frame.stdout), bytes(frame.stderr)) else {
        return Heard::Closed(None);
    };
    match frame.exited {
        true => Heard::Exited(frame.result.unwrap_or_default().exit_code),
        false => Heard::Said { out, besides },
    }
}

pub fn stdin(bytes: &[u8]) -> Message {
    const BEFORE: &str = r#"{"stdin":{"data":""#;
    const AFTER: &str = r#""}}"#;
    let mut text = String::with_capacity(BEFORE.len() + bytes.len().div_ceil(3) * 4 + AFTER.len());
    text.push_str(BEFORE);
    STANDARD.encode_string(bytes, &mut text);
    text.push_str(AFTER);
    Message::text(text)
}
