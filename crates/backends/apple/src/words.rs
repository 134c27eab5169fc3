//! What Apple's `container` answers, as JSON. Whatever is not needed is not looked at, so that a
//! later version may say more.
//!
//! After `ManagedContainer`, `PublishPort`, `ImageResource` and `VersionInfo` of version 1.2.2.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use agentkernel_core::{ImageFacts, Port};
use serde::Deserialize;

/// An entry of `container list --all --format json` and `container inspect`.
#[derive(Debug, Deserialize)]
pub struct Container {
    pub id: String,
    pub configuration: Configuration,
    pub status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub published_ports: Vec<Published>,
}

/// A port of the host's that leads into a container, or the first of a `count` of them that others
/// may have asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    pub host_address: String,
    pub host_port: NonZeroU16,
    pub container_port: NonZeroU16,
    /// `tcp` or `udp`.
    pub proto: String,
}

impl Published {
    /// Whether it is the port, whatever number was picked for that.
    pub fn is(&self, port: &Port) -> bool {
        self.host_address.parse() == Ok(port.address)
            && port.outside.is_none_or(|outside| outside == self.host_port)
            && self.container_port == port.inside
            && self.proto == port.transport.name()
    }
}

#[derive(Debug, Deserialize)]
pub struct Status {
    /// `running`, `stopped`, `stopping` or `unknown`.
    pub state: String,
}

/// An entry of `container image inspect`.
#[derive(Debug, Deserialize)]
pub struct Image {
    pub id: String,
    #[serde(default)]
    pub variants: Vec<Variant>,
}

/// An image for one platform.
#[derive(Debug, Deserialize)]
pub struct Variant {
    pub platform: Platform,
    pub config: VariantConfig,
}

#[derive(Debug, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
}

/// The image's own description, in the words of OCI.
#[derive(Debug, Deserialize)]
pub struct VariantConfig {
    pub config: Option<ImageConfig>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    pub user: Option<String>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: Option<String>,
}

/// An entry of `container system version --format json`: of the program, and of its service if that
/// runs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub version: String,
    pub app_name: String,
}

/// What `container system status --format json` answers.
#[derive(Debug, Deserialize)]
pub struct ServiceStatus {
    /// `running`, `not running` or `unregistered`.
    pub status: String,
}

impl Image {
    /// What it says of commands on `architecture`, or on whatever it has for Linux. Its users are not
    /// known yet.
    pub fn facts(&self, architecture: &str) -> ImageFacts {
        let is_linux = |variant: &&Variant| variant.platform.os == "linux";
        let mut linux = self.variants.iter().filter(is_linux);
        let fitting = linux.clone().find(|one| one.platform.architecture == architecture);
        let config = fitting.or_else(|| linux.next()).and_then(|one| one.config.config.clone());
        let ImageConfig { user, env, entrypoint, cmd, working_dir } = config.unwrap_or_default();
        ImageFacts {
            entrypoint: entrypoint.unwrap_or_default(),
            command: cmd.unwrap_or_default(),
            environment: env.unwrap_or_default(),
            directory: working_dir.filter(|path| !path.is_empty()).map(Into::into),
            user: user.filter(|user| !user.is_empty()),
            ..ImageFacts::default()
        }
    }
}

/// The machine's architecture, in the words of OCI.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `JSONEncoder` writes a `ManagedContainer`, shortened.
    const LIST: &str = r#"[{"configuration":{"capAdd":[],"capDrop":["ALL"],
        "creationDate":"2026-08-08T01:02:03Z","id":"web","image":{"descriptor":{"digest":"sha256:0",
        "mediaType":"x","size":1},"reference":"docker.io/library/alpine:latest"},
        "labels":{"agentkernel":"00"},"mounts":[{"destination":"/a","options":["ro"],
        "source":"/b","type":{"virtiofs":{}}}],"publishedPorts":[{"containerPort":80,"count":1,
        "hostAddress":"127.0.0.1","hostPort":8080,"proto":"tcp"}],"resources":{"cpus":4,"memoryInBytes":1073741824}},
        "id":"web","status":{"networks":[],"startedDate":"2026-08-08T01:02:04Z",
        "state":"running"}}]"#;

    const IMAGE: &str = r#"[{"configuration":{"creationDate":"2026-08-08T01:02:03Z",
        "descriptor":{"digest":"sha256:0a","mediaType":"x","size":1},"name":"x"},"id":"0a",
        "variants":[
          {"config":{"architecture":"unknown","os":"unknown","rootfs":{}},"digest":"sha256:1",
           "platform":{"architecture":"unknown","os":"unknown"},"size":1},
          {"config":{"architecture":"amd64","config":{"Env":["A=amd"]},"os":"linux","rootfs":{}},
           "digest":"sha256:2","platform":{"architecture":"amd64","os":"linux"},"size":1},
          {"config":{"architecture":"arm64","config":{"Cmd":["sh"],"Env":["A=arm"],"User":"web",
           "WorkingDir":""},"os":"linux","rootfs":{}},"digest":"sha256:3",
           "platform":{"architecture":"arm64","os":"linux","variant":"v8"},"size":1}]}]"#;

    #[test]
    fn what_it_says_of_containers_is_understood() {
        let all: Vec<Container> = serde_json::from_str(LIST).unwrap();
        assert_eq!((all[0].id.as_str(), all[0].status.state.as_str()), ("web", "running"));
        assert_eq!(all[0].configuration.labels["agentkernel"], "00");
        let port = &all[0].configuration.published_ports[0];
        assert_eq!((port.host_port.get(), port.container_port.get()), (8080, 80));
        // Versions before 1.0 had the state alone.
        let old = r#"[{"configuration":{"id":"web"},"status":"running","networks":[]}]"#;
        assert!(serde_json::from_str::<Vec<Container>>(old).is_err());
    }

    #[test]
    fn an_image_counts_as_it_is_on_this_machine() {
        let all: Vec<Image> = serde_json::from_str(IMAGE).unwrap();
        let arm = all[0].facts("arm64");
        assert_eq!((arm.environment, arm.user), (vec!["A=arm".into()], Some("web".into())));
        assert_eq!(arm.directory, None);
        assert_eq!(all[0].facts("riscv64").environment, ["A=amd"]);
    }
}
