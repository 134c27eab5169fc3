//! Engines that are not at a local socket.

use std::fmt;
use std::path::PathBuf;

use agentkernel_containers::Product;
use agentkernel_core::BootError;

use super::{Variables, docker_config};

/// How an engine elsewhere is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Far {
    Tcp {
        host: String,
        port: u16,
        certificates: Option<Certificates>,
    },
    /// By a program of its own there that carries a stream: `ssh HOST docker system dial-stdio`.
    Ssh {
        destination: String,
        port: Option<u16>,
        command: Vec<String>,
    },
}

/// What proves who an engine is, and who we are: as Docker's own command line has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    pub ca: PathBuf,
    pub own: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    pub fn in_folder(folder: PathBuf) -> Self {
        let [ca, own, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name));
        Self { ca, own, key }
    }

    /// Those that the variables ask for.
    pub fn asked(variables: Variables<'_>) -> Option<Self> {
        variables("DOCKER_TLS_VERIFY")?;
        let folder = variables("DOCKER_CERT_PATH").map(PathBuf::from);
        Some(Self::in_folder(folder.or_else(|| docker_config(variables))?))
    }
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Self::Ssh { destination, port: Some(port), .. } => {
                write!(f, "ssh://{destination}:{port}")
            }
            Self::Ssh { destination, port: None, .. } => write!(f, "ssh://{destination}"),
        }
    }
}

/// The engine at an address that is no local socket's.
pub fn address(
    product: &Product,
    text: &str,
    certificates: Option<Certificates>,
) -> Result<Far, BootError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let place = split_port(place);
    match (scheme, user, place, path.as_str()) {
        ("tcp" | "http" | "https", None, Some((host, port)), "" | "/") => {
            if scheme == "https" && certificates.is_none() {
                return Err(unusable(
                    format!("{}'s engine at https:// has nothing that proves it", product.title),
                    "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to a folder with ca.pem, cert.pem \
                     and key.pem",
                ));
            }
            let port = port.unwrap_or(if certificates.is_some() { 2376 } else { 2375 });
            Ok(Far::Tcp { host: host.into(), port, certificates })
        }
        // What begins like a flag is none of a host.
        ("ssh", user, Some((host, port)), path)
            if !host.starts_with('-') && !user.is_some_and(|user| user.starts_with('-')) =>
        {
            let destination = user.map_or(host.into(), |user| format!("{user}@{host}"));
            let command = dial(product, path);
            Ok(Far::Ssh { destination, port, command })
        }
        _ => Err(unusable(
            format!(
                "{}'s engine can't be reached by {scheme}://, or the address is none",
                product.title
            ),
            "give it as unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST",
        )),
    }
}

/// The program that carries a stream to the engine, on the engine's machine.
fn dial(product: &Product, path: &str) -> Vec<String> {
    let words: &[&str] = match (product.service, path) {
        (None, "" | "/") => &["docker", "system", "dial-stdio"],
        (None, _) => &["docker", "--host", "unix://", "system", "dial-stdio"],
        (Some(program), "" | "/") => &[program, "system", "dial-stdio"],
        (Some(program), _) => &[program, "--url", "unix://", "system", "dial-stdio"],
    };
    let words = words.iter().map(|word| match *word {
        "unix://" => format!("unix://{path}"),
        word => word.into(),
    });
    words.collect()
}

/// A host and its port, of which IPv6 ones are in brackets.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':').or((!port.is_empty()).then_some("?")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or(()));
    (!host.is_empty()).then_some(())?;
    Some((host, port.transpose().ok()?))
}

fn unusable(why: String, fix: &str) -> BootError {
    BootError::Unavailable { why, fix: fix.into() }
}

#[cfg(test)]
mod tests {
    use agentkernel_containers::{DOCKER, PODMAN};

    use super::*;

    #[test]
    fn an_engine_may_be_behind_ssh() {
        let of = |product, text: &str| match address(product, text, None) {
            Ok(Far::Ssh { destination, port, command }) => (destination, port, command.join(" ")),
            other => (format!("{other:?}"), None, String::new()),
        };
        let dialled = |destination: &str, port, command: &str| {
            (destination.to_owned(), port, command.to_owned())
        };
        let docker = "docker system dial-stdio";
        assert_eq!(of(&DOCKER, "ssh://me@h:22"), dialled("me@h", Some(22), docker));
        assert_eq!(of(&DOCKER, "ssh://h"), dialled("h", None, docker));
        let podman = "podman --url unix:///run/p.sock system dial-stdio";
        assert_eq!(of(&PODMAN, "ssh://root@h/run/p.sock"), dialled("root@h", None, podman));
        for nonsense in ["ssh://-oProxyCommand=x", "ssh://-l@h", "ssh://h:0", "ssh://"] {
            assert!(address(&DOCKER, nonsense, None).is_err(), "{nonsense}");
        }
    }
}
