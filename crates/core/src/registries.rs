//! How registries of images are to be asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
