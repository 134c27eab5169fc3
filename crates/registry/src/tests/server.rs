//! A registry that answers as a test wants it to. It is stricter than real ones: whoever asks in a way
//! that some registry might not understand fails the test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// By their names in lower case.
    headers: HashMap<String, String>,
    pub body: String,
    pub when: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What it answers.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// How much of the body is sent before the connection is closed.
    pub cut: Option<usize>,
    /// How long it waits before each byte of the body, from the `cut`th on.
    pub drip: Option<Duration>,
    /// It never says how long its body is.
    pub is_endless: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), body, cut: None, drip: None, is_endless: false }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Shared {
    answer: Answer,
    tls: Option<Arc<ServerConfig>>,
    asked: Mutex<Vec<Request>>,
    /// What nobody should have asked.
    wrong: Mutex<Vec<String>>,
    is_over: AtomicBool,
    /// Nothing is ever sent, so that waiting for it is a pause that an end cuts short.
    pause: Mutex<mpsc::Receiver<()>>,
    connections: Mutex<Vec<TcpStream>>,
}

pub struct Server {
    /// `127.0.0.1:PORT`.
    pub host: String,
    shared: Arc<Shared>,
    _end: mpsc::Sender<()>,
}

impl Server {
    pub fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Box::new(answer), None)
    }

    pub fn with_tls(
        config: ServerConfig,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(Box::new(answer), Some(config.into()))
    }

    fn start(answer: Answer, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (end, pause) = mpsc::channel();
        let shared = Arc::new(Shared {
            answer,
            tls,
            asked: Mutex::default(),
            wrong: Mutex::default(),
            is_over: AtomicBool::new(false),
            pause: Mutex::new(pause),
            connections: Mutex::default(),
        });
        let theirs = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, shared) = (stream.unwrap(), theirs.clone());
                shared.connections.lock().unwrap().push(stream.try_clone().unwrap());
                thread::spawn(move || {
                    // There is another descriptor of it, which would hold it open.
                    let end = stream.try_clone().unwrap();
                    shared.serve(stream);
                    let _ = end.shutdown(Shutdown::Both);
                });
            }
        });
        Self { host, shared, _end: end }
    }

    /// All that it was asked for whose path has this in it, but for greetings.
    pub fn asked(&self, what: &str) -> Vec<Request> {
        let asked = self.shared.asked.lock().unwrap();
        asked
            .iter()
            .filter(|asked| asked.path != "/v2/" && asked.path.contains(what))
            .cloned()
            .collect()
    }

    /// Nobody is answered any more, in the middle of whatever is sent.
    pub fn die(&self) {
        self.shared.die(&self.host);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.die();
        let wrong = self.shared.wrong.lock().unwrap();
        if !thread::panicking() {
            assert!(wrong.is_empty(), "asked wrongly: {wrong:?}");
        }
    }
}

impl Shared {
    fn die(&self, host: &str) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            for connection in self.connections.lock().unwrap().drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
            // Whoever listens looks up.
            let _ = TcpStream::connect(host);
        }
    }

    fn serve(&self, stream: TcpStream) {
        let mut first = [0];
        if stream.peek(&mut first).unwrap_or(0) == 0 {
            return;
        }
        const HANDSHAKE: u8 = 22;
        match &self.tls {
            Some(config) if first[0] == HANDSHAKE => {
                let session = ServerConnection::new(config.clone()).unwrap();
                self.talk(StreamOwned::new(session, stream));
            }
            None if first[0] != HANDSHAKE => self.talk(stream),
            // As a server in Go does, and many others.
            _ => {
                let mut stream = stream;
                let _ =
                    stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nno TLS, or no plain HTTP");
            }
        }
    }

    fn talk(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream) {
            self.judge(&request);
            self.asked.lock().unwrap().push(request.clone());
            let reply = match request.path.as_str() {
                "/v2/" => Reply::new(200, "{}"),
                _ => (self.answer)(&request),
            };
            if !self.send(stream.get_mut(), &reply) {
                return;
            }
        }
    }

    fn judge(&self, request: &Request) {
        let accept = request.header("accept").unwrap_or_default();
        let is_manifest = request.path.contains("/manifests/");
        let range = request.header("range");
        let is_range = |range: &str| {
            let first = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
            first.is_some_and(|first| first.parse::<u64>().is_ok_and(|first| first > 0))
        };
        let wrong = [
            (request.header("host").is_none(), "no host"),
            (request.header("double").is_some(), "a header twice"),
            (request.header("accept-encoding").is_some(), "something packed again"),
            (request.header("referer").is_some(), "where it comes from is told"),
            (request.header("cookie").is_some(), "a cookie"),
            (request.method == "GET" && !request.body.is_empty(), "a body"),
            (is_manifest && !accept.contains("application/vnd.oci.image."), "any kind of manifest"),
            (range.is_some_and(|range| !is_range(range)), "a range of which nobody knows"),
            (range.is_some() && is_manifest, "a part of a manifest"),
        ];
        let wrong = wrong.into_iter().filter(|(is_wrong, _)| *is_wrong);
        let wrong = wrong.map(|(_, why)| format!("{why}: {} {}", request.method, request.path));
        self.wrong.lock().unwrap().extend(wrong);
    }

    /// Sends an answer, and says whether the connection is good for more.
    fn send(&self, stream: &mut impl Write, reply: &Reply) -> bool {
        let mut head = format!("HTTP/1.1 {} Answer\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !reply.is_endless {
            head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
        }
        let cut = reply.cut.unwrap_or(reply.body.len());
        let sent = stream.write_all(format!("{head}\r\n").as_bytes());
        if sent.and_then(|()| stream.write_all(&reply.body[..cut])).is_err()
            || stream.flush().is_err()
        {
            return false;
        }
        if let Some(drip) = reply.drip {
            let pause = self.pause.lock().unwrap();
            for byte in &reply.body[cut..] {
                let is_over = pause.recv_timeout(drip) != Err(mpsc::RecvTimeoutError::Timeout);
                if is_over || stream.write_all(&[*byte]).is_err() || stream.flush().is_err() {
                    return false;
                }
            }
        }
        if reply.is_endless {
            while stream.write_all(&reply.body).is_ok() {}
            return false;
        }
        reply.cut.is_none() || reply.drip.is_some()
    }
}

fn read(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let name = name.to_ascii_lowercase();
        if headers.insert(name, value.trim().to_owned()).is_some() {
            headers.insert("double".into(), line);
        }
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Request { method, path, headers, body, when: Instant::now() })
}
