//! Connections to the API.

use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::settings::{Address, Settings};
use crate::tls;

/// How long it may take until one is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// After which silence the system asks whether the other end is still there, and how often it asks
/// again before it gives up.
const SILENCE: Duration = Duration::from_secs(30);
const PROBES: Duration = Duration::from_secs(10);

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens one.
pub async fn open(settings: &Settings) -> io::Result<Box<dyn Stream>> {
    let opened = async {
        match &settings.address {
            Address::Socket(path) => {
                Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>)
            }
            Address::Tcp { host, port, tls } => {
                let stream = connect(host, *port).await?;
                if !tls {
                    return Ok(Box::new(stream) as Box<dyn Stream>);
                }
                let config = tls::configuration(&settings.tls)?;
                let name = settings.tls.name.as_ref().unwrap_or(host).clone();
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::new(config));
                Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Stream>)
            }
        }
    };
    timeout(PATIENCE, opened).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Names are looked up by the calling thread: the process is to stay one of a single thread.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                // Else nobody would notice an end without a word.
                sockopt::set_socket_keepalive(stream.as_fd(), true)?;
                sockopt::set_tcp_keepidle(stream.as_fd(), SILENCE)?;
                sockopt::set_tcp_keepintvl(stream.as_fd(), PROBES)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
