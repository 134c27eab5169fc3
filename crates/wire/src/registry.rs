//! Registries, as a settings file has them: `[registries."HOST:PORT"]`.

use std::path::PathBuf;

use agentkernel_core::{RegistrySettings, check_registry, mirrored};
use serde::Deserialize;

/// A registry's name, which stands before an image's first slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct RegistryName(String);

impl RegistryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RegistryName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match check_registry(&name) {
            Ok(()) => Ok(Self(name)),
            Err(why) => Err(format!("{name:?} is not the name of a registry: {why}")),
        }
    }
}

/// Who may have what a registry has: `HOST[:PORT][/FOLDER]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mirror(String);

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match mirrored(&name, "image") {
            Ok(_) => Ok(Self(name)),
            Err(why) => Err(format!("{name:?} is not HOST, HOST:PORT or HOST:PORT/FOLDER: {why}")),
        }
    }
}

/// What a file says of a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryRequest {
    pub insecure: bool,
    pub mirrors: Vec<Mirror>,
    pub ca: Option<PathBuf>,
}

impl From<RegistryRequest> for RegistrySettings {
    fn from(request: RegistryRequest) -> Self {
        let RegistryRequest { insecure, mirrors, ca } = request;
        let mirrors = mirrors.into_iter().map(|Mirror(name)| name).collect();
        Self { insecure, mirrors, ca }
    }
}
