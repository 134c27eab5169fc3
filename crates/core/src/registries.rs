//! How registries of images are to be asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Reference;

/// What was said of registries, by the name that stands before an image's first slash, such as
/// `ghcr.io` or `localhost:5000`. Of those that are not in here everything is as it usually is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries(pub BTreeMap<String, RegistrySettings>);

/// What was said of one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// It need not prove who it is, nor speak TLS. On loopback none need, unless `ca` is given.
    pub insecure: bool,
    /// Who else may have what it has, each as `HOST[:PORT][/FOLDER]`: asked first, in this order.
    pub mirrors: Vec<String>,
    /// A file of certificates in PEM form, whose holders may say who it is, beside those that the
    /// system trusts.
    pub ca: Option<PathBuf>,
}

impl Registries {
    /// What was said of one, or nothing.
    pub fn of(&self, registry: &str) -> RegistrySettings {
        self.0.get(registry).cloned().unwrap_or_default()
    }
}

/// Whom a mirror's name means, and what it calls this repository of the registry that it stands
/// for; or what is wrong with the name.
pub fn mirrored(mirror: &str, repository: &str) -> Result<(String, String), String> {
    let text = format!("{mirror}/{repository}");
    let reference = Reference::parse(&text)?;
    let host = text.split('/').next().unwrap_or_default();
    match reference.registry() == host && reference.tag.is_none() {
        true => Ok((host.into(), reference.repository())),
        false => Err(format!("{host:?} is not a registry such as ghcr.io or localhost:5000")),
    }
}

/// Says what is wrong with the name of a registry, if anything is.
pub fn check_registry(name: &str) -> Result<(), String> {
    match mirrored(name, "image")? {
        (host, _) if host == name => Ok(()),
        _ => Err("a registry has no folder".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_host_and_a_folder() {
        for (name, host, repository) in [
            ("a.example", "a.example", "library/debian"),
            ("a.example:5000", "a.example:5000", "library/debian"),
            ("a.example:5000/hub/x", "a.example:5000", "hub/x/library/debian"),
            ("docker.io", "docker.io", "library/debian"),
        ] {
            let found = mirrored(name, "library/debian").unwrap();
            assert_eq!(found, (host.into(), repository.into()));
        }
        for name in ["https://a.example", "a", "a/b", "", "a.example/", "a.example:1:2", "a b"] {
            assert!(mirrored(name, "library/debian").is_err(), "{name:?} was taken");
        }
    }

    #[test]
    fn a_registry_is_a_host() {
        for name in ["docker.io", "localhost", "localhost:5000", "[::1]:5000", "ghcr.io"] {
            assert_eq!(check_registry(name), Ok(()));
        }
        for name in ["", "a", "ghcr.io/x", "https://ghcr.io", "ghcr.io:", "ghcr.io:x"] {
            assert!(check_registry(name).is_err(), "{name:?} was taken");
        }
    }
}
