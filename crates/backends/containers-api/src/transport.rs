//! Connections to engines elsewhere: TCP, with TLS or without, and what SSH carries.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::process::{Child, Command};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{BollardRequest, ClientVersion, Docker};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tower_service::Service;

use crate::host::{Certificates, Far};

/// How long it may take until a connection is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// After which silence the system asks whether the other end is still there, and how often it asks
/// again before it gives up.
const SILENCE: Duration = Duration::from_secs(30);
const PROBES: Duration = Duration::from_secs(10);

/// A client of the engine at `far`.
pub fn docker(far: &Far, patience: u64, version: &ClientVersion) -> Result<Docker, Error> {
    let client = Client::builder(TokioExecutor::new()).build(Connector::new(far)?);
    let ask = move |request: BollardRequest| {
        let asked = client.request(request);
        async move { asked.await.map_err(Error::from) }
    };
    // Where to is known already; this is only the name that it is told.
    Docker::connect_with_custom_transport(ask, Some("http://docker"), patience, version)
}

/// Asks the engine at `far` over a connection of its own, which is the caller's if it is upgraded.
pub async fn ask(far: &Far, request: Request<String>) -> io::Result<Response<Incoming>> {
    let client: Client<_, String> =
        Client::builder(TokioExecutor::new()).build(Connector::new(far)?);
    client.request(request).await.map_err(io::Error::other)
}

#[derive(Clone)]
struct Connector(Arc<Way>);

enum Way {
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
    Ssh(Vec<String>),
}

impl Connector {
    fn new(far: &Far) -> io::Result<Self> {
        Ok(Self(Arc::new(match far {
            Far::Tcp { host, port, certificates } => {
                let tls = certificates.as_ref().map(|certificates| {
                    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                    Ok::<_, io::Error>((TlsConnector::from(Arc::new(tls(certificates)?)), name))
                });
                Way::Tcp { host: host.clone(), port: *port, tls: tls.transpose()? }
            }
            Far::Ssh { destination, port, command } => {
                let port = port.iter().flat_map(|port| ["-p".into(), port.to_string()]);
                // Nobody is there to be asked for a password.
                let words = ["-o", "BatchMode=yes", "-T"].map(String::from).into_iter();
                let words = words.chain(port).chain(["--".into(), destination.clone()]);
                Way::Ssh(words.chain(command.iter().cloned()).collect())
            }
        })))
    }
}

/// Who is trusted: whom the certificates name, and nobody else.
fn tls(certificates: &Certificates) -> io::Result<ClientConfig> {
    let Certificates { ca, own, key } = certificates;
    let at = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        io::Error::other(format!("{}: {error}", path.display()))
    };
    let read = |path: &std::path::Path| -> io::Result<Vec<CertificateDer<'static>>> {
        let all = CertificateDer::pem_file_iter(path).map_err(|error| at(path, &error))?;
        all.collect::<Result<_, _>>().map_err(|error| at(path, &error))
    };
    let mut roots = RootCertStore::empty();
    for root in read(ca)? {
        roots.add(root).map_err(|error| at(ca, &error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    if !own.exists() && !key.exists() {
        return Ok(config.with_no_client_auth());
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| at(key, &error))?;
    config.with_client_auth_cert(read(own)?, secret).map_err(|error| at(own, &error))
}

impl Way {
    async fn connect(&self) -> io::Result<Open> {
        match self {
            Self::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                notice_death(stream.as_fd())?;
                let stream: Box<dyn Stream> = match tls {
                    Some((tls, name)) => Box::new(tls.connect(name.clone(), stream).await?),
                    None => Box::new(stream),
                };
                Ok(Open { stream, child: None })
            }
            Self::Ssh(words) => Open::by_program(words),
        }
    }
}

/// Has a connection fail whose other end is gone without a word.
fn notice_death(stream: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    Ok(sockopt::set_tcp_keepintvl(stream, PROBES)?)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, as the client takes it.
struct Open {
    stream: Box<dyn Stream>,
    /// The program that carries it, if one does.
    child: Option<Child>,
}

impl Open {
    fn by_program(words: &[String]) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let spawned = Command::new("ssh")
            .args(words)
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .spawn();
        let child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("there is no ssh on the PATH"),
            _ => error,
        })?;
        Ok(Self { stream: Box::new(UnixStream::from_std(ours)?), child: Some(child) })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has nothing left to carry.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Connection for Open {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Open {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Open {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Open>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Open>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let way = Arc::clone(&self.0);
        Box::pin(async move {
            match timeout(PATIENCE, way.connect()).await {
                Ok(open) => open.map(TokioIo::new),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
