//! Where the cluster is, and who the caller is to it: by the variables that Nomad's own command line reads.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use agentkernel_core::BootError;
use agentkernel_far::Configured;
use serde::{Deserialize, Serialize};

/// The variables that say so. The last ones are agentkernel's own.
pub const VARIABLES: &[&str] = &[
    "NOMAD_ADDR",
    "NOMAD_REGION",
    "NOMAD_NAMESPACE",
    "NOMAD_TOKEN",
    "NOMAD_CACERT",
    "NOMAD_CAPATH",
    "NOMAD_CLIENT_CERT",
    "NOMAD_CLIENT_KEY",
    "NOMAD_TLS_SERVER_NAME",
    "NOMAD_SKIP_VERIFY",
    DATACENTERS,
    DRIVER,
    AGENT,
];

const DATACENTERS: &str = "NOMAD_DATACENTERS";
const DRIVER: &str = "NOMAD_DRIVER";
const AGENT: &str = "NOMAD_AGENT_PATH";

/// Where Nomad listens unless it is told otherwise.
const ADDRESS: &str = "http://127.0.0.1:4646";

/// How its cluster is reached, and what of it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub address: Address,
    pub region: Option<String>,
    pub namespace: Option<String>,
    /// Never to be shown.
    pub token: Option<String>,
    pub tls: Tls,
    /// All of the cluster's if there are none.
    pub datacenters: Vec<String>,
    pub source: Source,
}

/// Where the API is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Socket(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}"),
                    false => write!(f, "{scheme}://{host}:{port}"),
                }
            }
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Who is trusted, and who the caller is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    pub ca: Option<PathBuf>,
    pub ca_folder: Option<PathBuf>,
    pub own: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// What the other end's certificate is to be for, if not for the address's host.
    pub name: Option<String>,
    pub trusts_anybody: bool,
}

/// Where a task has the agent's program from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// From here, over the stream, which takes a shell in the image.
    Sent,
    /// A file on each node.
    Node(PathBuf),
}

impl Settings {
    /// Those of the calling process.
    pub fn find() -> Result<Self, BootError> {
        let configured = Configured::read("nomad", VARIABLES)?;
        Self::of(|name| env::var_os(name).or_else(|| configured.get(name).map(Into::into)))
    }

    fn of(read: impl Fn(&str) -> Option<OsString>) -> Result<Self, BootError> {
        let read = |name: &str| match read(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => value.into_string().map(Some).map_err(|_| no_good(name, "is no text")),
        };
        let path = |name| Ok::<_, BootError>(read(name)?.map(PathBuf::from));
        match read(DRIVER)?.as_deref() {
            None | Some("docker") => {}
            Some("raw_exec") => {
                return Err(no_good(
                    DRIVER,
                    "is raw_exec, which isolates nothing: a command would be the node's own user's, \
                     among the node's own files",
                ));
            }
            Some(other) => {
                return Err(no_good(DRIVER, &format!("is {other:?}, and can be docker alone")));
            }
        }
        let address = read("NOMAD_ADDR")?;
        Ok(Self {
            address: parse_address(address.as_deref().unwrap_or(ADDRESS))?,
            region: read("NOMAD_REGION")?,
            namespace: read("NOMAD_NAMESPACE")?,
            token: read("NOMAD_TOKEN")?,
            tls: Tls {
                ca: path("NOMAD_CACERT")?,
                ca_folder: path("NOMAD_CAPATH")?,
                own: path("NOMAD_CLIENT_CERT")?,
                key: path("NOMAD_CLIENT_KEY")?,
                name: read("NOMAD_TLS_SERVER_NAME")?,
                trusts_anybody: match read("NOMAD_SKIP_VERIFY")?.as_deref() {
                    None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
                    Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
                    Some(other) => {
                        let why = format!("is {other:?}, which is neither true nor false");
                        return Err(no_good("NOMAD_SKIP_VERIFY", &why));
                    }
                },
            },
            datacenters: read(DATACENTERS)?
                .map(|all| all.split(',').map(|one| one.trim().to_owned()).collect())
                .unwrap_or_default(),
            source: match read(AGENT)? {
                None => Source::Sent,
                Some(path) if path.starts_with('/') && !path.contains(':') => {
                    Source::Node(path.into())
                }
                Some(other) => {
                    let why = format!("is {other:?}, which is no absolute path without a colon");
                    return Err(no_good(AGENT, &why));
                }
            },
        })
    }

    /// The namespace by its name.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

fn parse_address(text: &str) -> Result<Address, BootError> {
    let wrong = || {
        no_good(
            "NOMAD_ADDR",
            &format!(
                "is {text:?}, which is no address such as {ADDRESS} or unix:///run/nomad.sock"
            ),
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let tls = match scheme {
        "unix" if rest.starts_with('/') => return Ok(Address::Socket(rest.into())),
        "http" => false,
        "https" => true,
        _ => return Err(wrong()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            (host, port.strip_prefix(':'))
        }
        None => match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if host.is_empty() || !host.chars().all(is_plain) {
        return Err(wrong());
    }
    let usual = if tls { 443 } else { 80 };
    let port = port.map_or(Ok(usual), str::parse).map_err(|_| wrong())?;
    Ok(Address::Tcp { host: host.into(), port, tls })
}

fn no_good(name: &str, why: &str) -> BootError {
    BootError::Unavailable {
        why: format!("{name} {why}"),
        fix: format!("unset or correct {name}; see docs/nomad.md"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, BootError> {
        Settings::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn addresses_are_what_nomads_own_program_takes() {
        let of = |text| with(&[("NOMAD_ADDR", text)]).map(|found| found.address.to_string());
        for (text, means) in [
            ("http://127.0.0.1:4646", "http://127.0.0.1:4646"),
            ("https://nomad.example/", "https://nomad.example:443"),
            ("http://[::1]:4646", "http://[::1]:4646"),
            ("unix:///run/nomad.sock", "unix:///run/nomad.sock"),
        ] {
            assert_eq!(of(text).unwrap(), means);
        }
        for text in
            ["127.0.0.1:4646", "ftp://a", "http://", "http://a:b", "http://a/v1", "unix://a"]
        {
            assert!(of(text).is_err(), "{text}");
        }
        assert_eq!(with(&[]).unwrap().address.to_string(), ADDRESS);
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for (name, value) in [
            (DRIVER, "raw_exec"),
            (DRIVER, "java"),
            ("NOMAD_SKIP_VERIFY", "maybe"),
            (AGENT, "image"),
        ] {
            let error = with(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
