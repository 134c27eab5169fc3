//! Where an engine is: by the variables and files that its own command line goes by.

mod far;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use agentkernel_containers::Product;
use agentkernel_core::{BootError, hex};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use far::{Certificates, Far};

/// The variables that say where engines are, and how their programs are found.
pub const VARIABLES: &[&str] = &[
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "SSH_AUTH_SOCK",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "REGISTRY_AUTH_FILE",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "HOME",
    "PATH",
];

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A local socket at which it listens.
    Socket(PathBuf),
    /// It has none: a program of this name serves it while it is needed.
    OnDemand(&'static str),
    /// On another machine, or as if on one.
    Far(Far),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::OnDemand(program) => program.fmt(f),
            Self::Far(far) => far.fmt(f),
        }
    }
}

/// Finds the engine of `product`.
pub fn find(product: &Product) -> Result<Host, BootError> {
    find_with(product, &variable)
}

/// Whether the engine of `product` can have containers. One that is only served on demand would make
/// its folders, and mount them, for whoever asks it.
pub fn is_in_use(product: &Product) -> bool {
    match find(product) {
        Ok(Host::OnDemand(_)) => has_storage(&variable),
        Ok(Host::Socket(_) | Host::Far(_)) => true,
        Err(_) => false,
    }
}

/// Whether an engine without a daemon has stored anything, as far as can be known without it.
fn has_storage(variables: Variables<'_>) -> bool {
    if variables("CONTAINERS_STORAGE_CONF").is_some() {
        return true;
    }
    let data = match rustix::process::geteuid().is_root() {
        true => Some(PathBuf::from("/var/lib")),
        false => variables("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&variables("HOME")?).join(".local/share"))),
    };
    data.is_some_and(|data| data.join("containers/storage").exists())
}

pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn find_with(product: &Product, variables: Variables<'_>) -> Result<Host, BootError> {
    let asked = match product.service {
        None => match variables("DOCKER_HOST") {
            Some(host) => Some((host, Certificates::asked(variables))),
            None => context(variables)?.map(|(host, found)| (OsString::from(host), found)),
        },
        Some(_) => variables("CONTAINER_HOST").map(|host| (host, None)),
    };
    if let Some((asked, certificates)) = asked {
        return address(product, &asked.to_string_lossy(), certificates);
    }
    let runtime = variables("XDG_RUNTIME_DIR").map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    let usual = match product.service {
        None => [
            Some(PathBuf::from("/var/run/docker.sock")),
            runtime.map(|runtime| runtime.join("docker.sock")),
        ],
        Some(_) if is_root => [Some(PathBuf::from("/run/podman/podman.sock")), None],
        Some(_) => [runtime.map(|runtime| runtime.join("podman/podman.sock")), None],
    };
    let mut usual = usual.into_iter().flatten();
    match (usual.clone().find(|path| path.exists()), product.service) {
        (Some(socket), _) => Ok(Host::Socket(socket)),
        (None, Some(program)) => Ok(Host::OnDemand(program)),
        (None, None) => Err(BootError::Unavailable {
            why: match usual.next() {
                Some(socket) => {
                    format!("{} is not there: nothing at {}", product.title, socket.display())
                }
                None => format!("{} is not there", product.title),
            },
            fix: product.install.into(),
        }),
    }
}

fn address(
    product: &Product,
    text: &str,
    certificates: Option<Certificates>,
) -> Result<Host, BootError> {
    if let Some(path) = text.strip_prefix("unix://") {
        return Ok(Host::Socket(path.into()));
    }
    if text.starts_with('/') {
        return Ok(Host::Socket(text.into()));
    }
    far::address(product, text, certificates).map(Host::Far)
}

/// The folder of Docker's own command line.
pub fn docker_config(variables: Variables<'_>) -> Option<PathBuf> {
    match variables("DOCKER_CONFIG") {
        Some(config) => Some(config.into()),
        None => Some(Path::new(&variables("HOME")?).join(".docker")),
    }
}

/// The host of Docker's current context, if that is not the default one, and what proves it.
fn context(variables: Variables<'_>) -> Result<Option<(String, Option<Certificates>)>, BootError> {
    let Some(config) = docker_config(variables) else { return Ok(None) };
    let named = variables("DOCKER_CONTEXT").map(|name| name.to_string_lossy().into_owned());
    let name = named.or_else(|| {
        let config = json(&config.join("config.json"))?;
        Some(config["currentContext"].as_str()?.to_owned())
    });
    let Some(name) = name.filter(|name| !name.is_empty() && name != "default") else {
        return Ok(None);
    };
    // That is how its command line names the folders.
    let digest = Sha256::digest(name.as_bytes());
    let digest = hex(&digest);
    let path = config.join("contexts/meta").join(&digest).join("meta.json");
    let meta = json(&path).unwrap_or_default();
    let endpoint = &meta["Endpoints"]["docker"];
    if endpoint["SkipTLSVerify"].as_bool() == Some(true) {
        return Err(BootError::Unavailable {
            why: format!("Docker's context {name} does not verify whom it talks to"),
            fix: "have it verify by a certificate, as with docker context update".into(),
        });
    }
    match endpoint["Host"].as_str() {
        Some(host) => {
            let folder = config.join("contexts/tls").join(digest).join("docker");
            let certificates = folder.is_dir().then(|| Certificates::in_folder(folder));
            Ok(Some((host.to_owned(), certificates)))
        }
        None => Err(BootError::Unavailable {
            why: format!("Docker's context {name} can't be found in {}", path.display()),
            fix: "choose another with docker context use, or set DOCKER_HOST".into(),
        }),
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use agentkernel_containers::{DOCKER, PODMAN};

    use super::*;

    fn found(product: &Product, variables: &[(&str, &str)]) -> Result<Host, String> {
        let map: HashMap<&str, &str> = variables.iter().copied().collect();
        find_with(product, &|name| map.get(name).map(OsString::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_variables_of_its_own_command_line_count() {
        let at = |path: &str| Ok(Host::Socket(path.into()));
        assert_eq!(found(&DOCKER, &[("DOCKER_HOST", "unix:///x/y.sock")]), at("/x/y.sock"));
        assert_eq!(found(&PODMAN, &[("CONTAINER_HOST", "unix:///p.sock")]), at("/p.sock"));
        assert!(found(&DOCKER, &[("DOCKER_HOST", "npipe:////./pipe/docker")]).is_err());
    }

    #[test]
    fn an_engine_may_be_far_away() {
        let of = |variables: &[(&str, &str)]| match found(&DOCKER, variables) {
            Ok(Host::Far(far)) => Ok(far),
            other => Err(format!("{other:?}")),
        };
        let tcp = |host: &str, port, certificates: Option<&str>| {
            let certificates = certificates.map(|folder| Certificates::in_folder(folder.into()));
            Ok(Far::Tcp { host: host.into(), port, certificates })
        };
        assert_eq!(of(&[("DOCKER_HOST", "tcp://10.0.0.1:99")]), tcp("10.0.0.1", 99, None));
        assert_eq!(of(&[("DOCKER_HOST", "http://[::1]")]), tcp("::1", 2375, None));
        let tls = ("DOCKER_TLS_VERIFY", "1");
        let folder = ("DOCKER_CERT_PATH", "/c");
        let host = ("DOCKER_HOST", "tcp://h/");
        assert_eq!(of(&[host, tls, folder]), tcp("h", 2376, Some("/c")));
        assert_eq!(of(&[host, tls, ("HOME", "/h")]), tcp("h", 2376, Some("/h/.docker")));
        for nonsense in ["tcp://", "tcp://h:x", "tcp://h:1/path", "https://h", "ftp://h"] {
            assert!(of(&[("DOCKER_HOST", nonsense)]).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn dockers_context_counts_and_a_broken_one_is_told() {
        let folder = env::temp_dir().join(format!("agentkernel-context-{}", std::process::id()));
        let digest = hex(&Sha256::digest(b"other"));
        let meta = folder.join("contexts/meta").join(digest);
        fs::create_dir_all(&meta).unwrap();
        fs::write(folder.join("config.json"), r#"{"currentContext":"other"}"#).unwrap();
        let text = r#"{"Name":"other","Endpoints":{"docker":{"Host":"unix:///c.sock"}}}"#;
        fs::write(meta.join("meta.json"), text).unwrap();
        let config = folder.to_string_lossy().into_owned();
        let of = |more: &[(&str, &str)]| {
            found(&DOCKER, &[&[("DOCKER_CONFIG", config.as_str())], more].concat())
        };
        assert_eq!(of(&[]), Ok(Host::Socket("/c.sock".into())));
        assert!(of(&[("DOCKER_CONTEXT", "lost")]).unwrap_err().contains("lost"));
        assert_eq!(of(&[("DOCKER_HOST", "unix:///d.sock")]), Ok(Host::Socket("/d.sock".into())));
        fs::remove_dir_all(folder).unwrap();
    }
}
