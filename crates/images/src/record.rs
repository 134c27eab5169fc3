//! What the store knows of an image.

use std::path::PathBuf;

use agentkernel_core::ImageFacts;
use serde::{Deserialize, Serialize};

use crate::{Chain, Digest};

/// An image, all of which is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The digest of its manifest, by which registries know it too.
    pub manifest: Digest,
    /// That of its configuration, which Docker shows as its id.
    pub configuration: Digest,
    /// What it was built for, such as `linux/amd64` or `linux/arm/v7`.
    pub platform: String,
    /// When it was made, as it says itself (RFC 3339).
    pub created: Option<String>,
    /// If it is a WebAssembly module: where that is, below the store's layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// When it came into the store, in seconds since 1970.
    pub kept: u64,
    pub config: Config,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub chain: Chain,
    /// The digest of its archive, unpacked.
    pub diff: Digest,
    /// What its files hold, in bytes; a file of several names counts once.
    pub bytes: u64,
}

/// What an image says of the commands that run in it: the OCI image specification's `config`, with
/// its users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub directory: Option<PathBuf>,
    /// `USER[:GROUP]`, each a name or a number.
    pub user: Option<String>,
    /// Its `/etc/passwd` and `/etc/group`; empty if it has none.
    pub passwd: String,
    pub group: String,
}

impl Record {
    /// What its files hold, in bytes.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// What all of its files are known by; none if it has no layer.
    pub fn top(&self) -> Option<&Chain> {
        self.layers.last().map(|layer| &layer.chain)
    }

    pub fn facts(&self) -> ImageFacts {
        let Config { environment, entrypoint, command, directory, user, passwd, group } =
            self.config.clone();
        let (hosts_users, only_caller) = (false, false);
        ImageFacts {
            entrypoint,
            command,
            environment,
            directory,
            user,
            passwd,
            group,
            hosts_users,
            only_caller,
        }
    }
}
