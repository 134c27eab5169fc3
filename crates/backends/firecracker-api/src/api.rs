//! A word with one Firecracker: HTTP over the local socket that it listens on.
//!
//! Requests go one after the other over one connection, as Firecracker answers them. Each is answered
//! within [`PATIENCE`], or the process is of no more use.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// How long one answer may take: a snapshot is written before it is said to be.
const PATIENCE: Duration = Duration::from_secs(60);

/// No answer is longer, and no more of one is held.
const LONGEST: usize = 64 << 10;

/// A connection to a Firecracker's API.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("can't connect to Firecracker's API: {0}")]
    Connect(std::io::Error),
    #[error("can't ask Firecracker to {what}: {why}")]
    Ask { what: &'static str, why: String },
    #[error("Firecracker did not {what} within {} s", PATIENCE.as_secs())]
    Slow { what: &'static str },
    /// In its own words.
    #[error("Firecracker refuses to {what}: {words}")]
    Refused { what: &'static str, words: String },
}

/// What it says of what went wrong.
#[derive(Debug, Deserialize)]
struct Fault {
    fault_message: String,
}

impl Api {
    /// Connects to the one that listens at `socket`.
    pub fn connect(socket: &Path) -> Result<Self, ApiError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(ApiError::Connect)?;
        let sender = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await.map_err(ApiError::Connect)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| ApiError::Connect(std::io::Error::other(error)))?;
            // Its end is seen by the next request.
            tokio::spawn(connection);
            Ok(sender)
        })?;
        Ok(Self { runtime, sender })
    }

    /// Has it do something: `what`, as the words after "can't ask Firecracker to".
    pub fn put(
        &mut self,
        path: &str,
        body: &impl Serialize,
        what: &'static str,
    ) -> Result<(), ApiError> {
        self.ask(Method::PUT, path, body, what)
    }

    /// The same of what is there already.
    pub fn patch(
        &mut self,
        path: &str,
        body: &impl Serialize,
        what: &'static str,
    ) -> Result<(), ApiError> {
        self.ask(Method::PATCH, path, body, what)
    }

    fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        what: &'static str,
    ) -> Result<(), ApiError> {
        let failed = |why: String| ApiError::Ask { what, why };
        let text = serde_json::to_vec(body).map_err(|error| failed(error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "localhost")
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|error| failed(error.to_string()))?;
        let sender = &mut self.sender;
        let answer = async {
            sender.ready().await.map_err(|error| failed(error.to_string()))?;
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|error| failed(error.to_string()))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            match status.is_success() {
                true => Ok(()),
                false => Err(ApiError::Refused { what, words: words(&body) }),
            }
        };
        let answered = self.runtime.block_on(async { timeout(PATIENCE, answer).await });
        answered.unwrap_or(Err(ApiError::Slow { what }))
    }
}

/// What an answer says that is no success.
fn words(body: &[u8]) -> String {
    match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => fault.fault_message.trim().to_owned(),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}
