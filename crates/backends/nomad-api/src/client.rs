//! A word with Nomad: HTTP, one request after the other over one connection.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::connection;
use crate::error::ApiError;
use crate::settings::{Address, Settings};

/// How long an answer may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a blocking query waits at the server's side for news.
const WAIT: Duration = Duration::from_secs(60);

/// No answer is longer, and no more of one is held.
const LONGEST: usize = 16 << 20;

const QUOTED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is asked for, as the words after "can't", and the capability of an ACL policy that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    pub words: &'static str,
    pub needs: &'static str,
}

pub const REGISTER: Act = Act { words: "register a job", needs: "submit-job" };
pub const REMOVE: Act = Act { words: "stop and remove a job", needs: "submit-job" };
pub const WATCH: Act = Act { words: "watch a job", needs: "read-job" };
pub const LIST: Act = Act { words: "list jobs", needs: "list-jobs" };
pub const EXEC: Act = Act { words: "open an exec in an allocation", needs: "alloc-exec" };
pub const CLEAR: Act = Act { words: "clear an allocation away", needs: "submit-job" };
pub const NODES: Act = Act { words: "list the nodes", needs: "node:read" };
pub const LEADER: Act = Act { words: "see whether the cluster has a leader", needs: "" };

/// An answer, and the index of the state that it tells of.
#[derive(Debug)]
pub struct Answer<T> {
    pub index: u64,
    pub body: T,
}

/// Whoever asks.
pub struct Client {
    pub settings: Settings,
    /// None until it is needed, and after it has ended.
    sender: Option<SendRequest<Full<Bytes>>>,
    /// How many requests were made.
    pub asked: u64,
}

impl Client {
    pub fn new(settings: Settings) -> Self {
        Self { settings, sender: None, asked: 0 }
    }

    pub async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        act: Act,
    ) -> Result<Answer<T>, ApiError> {
        self.ask(Method::GET, path, query, &(), act, PATIENCE).await
    }

    /// What is at `path`, once that is of a later state than `index`, or a while later.
    pub async fn next<T: DeserializeOwned>(
        &mut self,
        path: &str,
        index: u64,
        act: Act,
    ) -> Result<Answer<T>, ApiError> {
        let (index, wait) = (index.to_string(), format!("{}s", WAIT.as_secs()));
        let query = [("index", &*index), ("wait", &*wait)];
        // The server adds up to a sixteenth, so that not all come at once.
        self.ask(Method::GET, path, &query, &(), act, WAIT + WAIT / 16 + PATIENCE).await
    }

    pub async fn put<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
        act: Act,
    ) -> Result<Answer<T>, ApiError> {
        self.ask(Method::PUT, path, &[], body, act, PATIENCE).await
    }

    pub async fn delete<T: DeserializeOwned>(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        act: Act,
    ) -> Result<Answer<T>, ApiError> {
        self.ask(Method::DELETE, path, query, &(), act, PATIENCE).await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &impl Serialize,
        act: Act,
        patience: Duration,
    ) -> Result<Answer<T>, ApiError> {
        self.asked += 1;
        let uri = uri(&self.settings, path, query);
        let text = match method {
            Method::PUT => serde_json::to_vec(body).map_err(|e| ApiError::garbled(act, &e))?,
            _ => Vec::new(),
        };
        let mut request = Request::builder().method(method).uri(uri).header("Host", "nomad");
        for (name, value) in headers(&self.settings) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(text)));
        let request = request.map_err(|error| ApiError::garbled(act, &error))?;
        let answered = timeout(patience, self.send(request, act)).await;
        let (response, body) = answered.map_err(|_| self.slow(act))??;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            return Err(self.refused(act, status, &String::from_utf8_lossy(&body)));
        }
        let index = response.headers().get("X-Nomad-Index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok()).unwrap_or(0);
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        let body = serde_json::from_slice(body).map_err(|error| ApiError::garbled(act, &error))?;
        Ok(Answer { index, body })
    }

    /// Sends it, and has the whole answer. One that was not sent since its connection had ended meanwhile
    /// is sent over another one.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        act: Act,
    ) -> Result<(Response<()>, Bytes), ApiError> {
        let failed = |address: &Address, error: hyper::Error| ApiError::Unreachable {
            address: address.to_string(),
            source: io::Error::other(error),
        };
        let mut sender = match self.sender.take() {
            Some(mut sender) => match sender.ready().await {
                Ok(()) => sender,
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        let answer = sender.send_request(request).await;
        let (parts, body) =
            answer.map_err(|error| failed(&self.settings.address, error))?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| ApiError::garbled(act, &error))?.to_bytes();
        self.sender = Some(sender);
        Ok((Response::from_parts(parts, ()), body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ApiError> {
        let failed =
            |source| ApiError::Unreachable { address: self.settings.address.to_string(), source };
        let stream = connection::open(&self.settings).await.map_err(failed)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        // Its end is seen by the next request.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn slow(&self, act: Act) -> ApiError {
        ApiError::Slow { act, address: self.settings.address.to_string() }
    }

    /// What it means that Nomad has answered this.
    pub fn refused(&self, act: Act, status: u16, words: &str) -> ApiError {
        ApiError::Refused {
            act,
            status,
            words: words.trim().to_owned(),
            namespace: self.settings.namespace().to_owned(),
            has_token: self.settings.token.is_some(),
        }
    }
}

/// The path of a request, with all that has to be said in every one.
pub fn uri(settings: &Settings, path: &str, query: &[(&str, &str)]) -> String {
    let always = [("region", &settings.region), ("namespace", &settings.namespace)];
    let always = always.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    let all: Vec<String> = query
        .iter()
        .copied()
        .chain(always)
        .map(|(name, value)| format!("{name}={}", quoted(value)))
        .collect();
    if all.is_empty() { path.to_owned() } else { format!("{path}?{}", all.join("&")) }
}

pub fn quoted(text: &str) -> String {
    utf8_percent_encode(text, &QUOTED).to_string()
}

/// Who is asking.
pub fn headers(settings: &Settings) -> impl Iterator<Item = (&'static str, &str)> {
    settings.token.iter().map(|token| ("X-Nomad-Token", token.as_str()))
}
