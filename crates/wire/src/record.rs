//! A resolved spec as it is kept and sent: everything of it, and nothing left to be looked up.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use agentkernel_core::{
    Access, Asked, Bytes, Cpus, Image, Limits, Module, Mount, Network, Origin, Port, Profile,
    RootAccess, Spec, User,
};
use serde::{Deserialize, Serialize};

use crate::PortRecord;

/// A spec in JSON. Two equal specs have the same text, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecRecord {
    profile: ProfileRecord,
    image: ImageRecord,
    network: NetworkRecord,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortRecord>,
    read_only_root: bool,
    mounts: Vec<MountRecord>,
    directory: Option<Text>,
    user: UserRecord,
    environment: Vec<(Text, Text)>,
    cpus: Option<Limit>,
    memory: Option<Limit>,
    pids: Option<Limit>,
    disk: Option<Limit>,
    strict: bool,
}

/// A spec that can't be read back: made by another version, or damaged.
#[derive(Debug, thiserror::Error)]
#[error("the spec can't be read: {0}")]
pub struct SpecRecordError(String);

/// Bytes, as a text where they are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProfileRecord {
    Restrictive,
    Moderate,
    Permissive,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ImageRecord {
    Host,
    Rootfs(Text),
    Reference(String),
    /// In this file, or any if that is empty.
    Module(Text),
    NamedModule(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NetworkRecord {
    None,
    Full,
    Allow(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountRecord {
    source: Text,
    target: Text,
    access: AccessRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AccessRecord {
    Ro,
    Rw,
    Cow,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UserRecord {
    Unprivileged,
    Caller,
    Named(String),
    Ids(u32, u32),
}

/// Thousandths of a processor, bytes, or a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    value: u64,
    by_profile: bool,
}

impl SpecRecord {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // Nothing in it is a map with keys that JSON can't have, so this never fails.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn from_json(text: &str) -> Result<Self, SpecRecordError> {
        serde_json::from_str(text).map_err(|error| SpecRecordError(error.to_string()))
    }
}

impl From<&Spec> for SpecRecord {
    fn from(spec: &Spec) -> Self {
        let Limits { cpus, memory, pids, disk } = &spec.limits;
        let variables = spec.environment.iter();
        Self {
            profile: match spec.profile {
                Profile::Restrictive => ProfileRecord::Restrictive,
                Profile::Moderate => ProfileRecord::Moderate,
                Profile::Permissive => ProfileRecord::Permissive,
            },
            image: match &spec.image {
                Image::Host => ImageRecord::Host,
                Image::Rootfs(path) => ImageRecord::Rootfs(path.as_path().into()),
                Image::Reference(name) => ImageRecord::Reference(name.clone()),
                Image::Module(Module::Any) => ImageRecord::Module(Path::new("").into()),
                Image::Module(Module::File(path)) => ImageRecord::Module(path.as_path().into()),
                Image::Module(Module::Named(name)) => ImageRecord::NamedModule(name.clone()),
            },
            network: match &spec.network {
                Network::None => NetworkRecord::None,
                Network::Full => NetworkRecord::Full,
                Network::Allow(hosts) => NetworkRecord::Allow(hosts.clone()),
            },
            ports: spec.ports.iter().map(PortRecord::from).collect(),
            read_only_root: spec.root == RootAccess::ReadOnly,
            mounts: spec.mounts.iter().map(MountRecord::from).collect(),
            directory: spec.directory.as_deref().map(Text::from),
            user: match &spec.user {
                User::Unprivileged => UserRecord::Unprivileged,
                User::Caller => UserRecord::Caller,
                User::Named(name) => UserRecord::Named(name.clone()),
                User::Ids { uid, gid } => UserRecord::Ids(*uid, *gid),
            },
            environment: variables.map(|(n, v)| (Text::of(n), Text::of(v))).collect(),
            cpus: cpus.map(|asked| limit(asked, |cpus| cpus.millis().into())),
            memory: memory.map(|asked| limit(asked, Bytes::get)),
            pids: pids.map(|asked| limit(asked, u64::from)),
            disk: disk.map(|asked| limit(asked, Bytes::get)),
            strict: spec.strict,
        }
    }
}

impl TryFrom<SpecRecord> for Spec {
    type Error = SpecRecordError;

    fn try_from(record: SpecRecord) -> Result<Self, SpecRecordError> {
        let environment: BTreeMap<OsString, OsString> = record
            .environment
            .into_iter()
            .map(|(name, value)| (name.into_os_string(), value.into_os_string()))
            .collect();
        Ok(Self {
            profile: match record.profile {
                ProfileRecord::Restrictive => Profile::Restrictive,
                ProfileRecord::Moderate => Profile::Moderate,
                ProfileRecord::Permissive => Profile::Permissive,
            },
            image: match record.image {
                ImageRecord::Host => Image::Host,
                ImageRecord::Rootfs(path) => Image::Rootfs(path.into_path()),
                ImageRecord::Reference(name) => Image::Reference(name),
                ImageRecord::Module(path) => {
                    let path = path.into_path();
                    Image::Module(match path.as_os_str().is_empty() {
                        true => Module::Any,
                        false => Module::File(path),
                    })
                }
                ImageRecord::NamedModule(name) => Image::Module(Module::Named(name)),
            },
            network: match record.network {
                NetworkRecord::None => Network::None,
                NetworkRecord::Full => Network::Full,
                NetworkRecord::Allow(hosts) => Network::Allow(hosts),
            },
            ports: record.ports.iter().map(Port::from).collect(),
            root: match record.read_only_root {
                true => RootAccess::ReadOnly,
                false => RootAccess::Writable,
            },
            mounts: record.mounts.into_iter().map(Mount::from).collect(),
            directory: record.directory.map(Text::into_path),
            user: match record.user {
                UserRecord::Unprivileged => User::Unprivileged,
                UserRecord::Caller => User::Caller,
                UserRecord::Named(name) => User::Named(name),
                UserRecord::Ids(uid, gid) => User::Ids { uid, gid },
            },
            environment,
            limits: Limits {
                cpus: asked(record.cpus, |n| u32::try_from(n).ok().and_then(Cpus::from_millis))?,
                memory: asked(record.memory, Bytes::new)?,
                pids: asked(record.pids, |n| u32::try_from(n).ok())?,
                disk: asked(record.disk, Bytes::new)?,
            },
            strict: record.strict,
        })
    }
}

fn limit<T: Copy>(asked: Asked<T>, number: impl Fn(T) -> u64) -> Limit {
    Limit { value: number(asked.value), by_profile: asked.by == Origin::Profile }
}

fn asked<T>(
    limit: Option<Limit>,
    value: impl Fn(u64) -> Option<T>,
) -> Result<Option<Asked<T>>, SpecRecordError> {
    let Some(Limit { value: number, by_profile }) = limit else { return Ok(None) };
    let by = if by_profile { Origin::Profile } else { Origin::User };
    match value(number) {
        Some(value) => Ok(Some(Asked { value, by })),
        None => Err(SpecRecordError(format!("{number} is out of range"))),
    }
}

impl From<&Mount> for MountRecord {
    fn from(mount: &Mount) -> Self {
        Self {
            source: mount.source.as_path().into(),
            target: mount.target.as_path().into(),
            access: match mount.access {
                Access::ReadOnly => AccessRecord::Ro,
                Access::ReadWrite => AccessRecord::Rw,
                Access::CopyOnWrite => AccessRecord::Cow,
            },
        }
    }
}

impl From<MountRecord> for Mount {
    fn from(record: MountRecord) -> Self {
        Self {
            source: record.source.into_path(),
            target: record.target.into_path(),
            access: match record.access {
                AccessRecord::Ro => Access::ReadOnly,
                AccessRecord::Rw => Access::ReadWrite,
                AccessRecord::Cow => Access::CopyOnWrite,
            },
        }
    }
}

impl From<&Path> for Text {
    fn from(path: &Path) -> Self {
        Self::of(path.as_os_str())
    }
}

impl Text {
    fn of(text: &OsStr) -> Self {
        match text.to_str() {
            Some(text) => Self::Plain(text.into()),
            None => Self::Bytes(text.as_bytes().into()),
        }
    }

    fn into_os_string(self) -> OsString {
        match self {
            Self::Plain(text) => text.into(),
            Self::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }

    fn into_path(self) -> PathBuf {
        self.into_os_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Publish, Written, resolve_ports};

    fn spec() -> Spec {
        let by = Origin::User;
        Spec {
            profile: Profile::Restrictive,
            image: Image::Rootfs("/srv/image".into()),
            network: Network::Allow(vec!["example.org".into()]),
            ports: Vec::new(),
            root: RootAccess::ReadOnly,
            mounts: vec![Mount {
                source: OsStr::from_bytes(b"/srv/\xff").into(),
                target: "/data".into(),
                access: Access::CopyOnWrite,
            }],
            directory: Some("/data".into()),
            user: User::Ids { uid: 7, gid: 8 },
            environment: [("A".into(), OsStr::from_bytes(b"\xfe").into())].into(),
            limits: Limits {
                cpus: Some(Asked { value: Cpus::whole(2), by }),
                memory: Some(Asked { value: Bytes::mib(64), by: Origin::Profile }),
                pids: Some(Asked { value: 64, by }),
                disk: None,
            },
            strict: true,
        }
    }

    #[test]
    fn a_spec_comes_back_as_it_was() {
        let text = SpecRecord::from(&spec()).to_json();
        let back = Spec::try_from(SpecRecord::from_json(&text).unwrap()).unwrap();
        assert_eq!(back, spec());
        assert!(!text.contains("ports"), "{text}");
        assert_eq!(SpecRecord::from(&back).to_json(), text);
    }

    #[test]
    fn every_kind_of_image_comes_back() {
        for image in [
            Image::Host,
            Image::Reference("python:3".into()),
            Image::Module(Module::File("/srv/app.wasm".into())),
            Image::Module(Module::Any),
            Image::Module(Module::File(OsStr::from_bytes(b"/srv/\xff.wat").into())),
            Image::Module(Module::Named("ghcr.io/x/y:1".into())),
        ] {
            let spec = Spec { image, ..spec() };
            let text = SpecRecord::from(&spec).to_json();
            assert_eq!(Spec::try_from(SpecRecord::from_json(&text).unwrap()).unwrap(), spec);
        }
    }

    #[test]
    fn ports_come_back_too() {
        let publish = Publish::read(OsStr::new("[::1]:80-81:90-91/udp")).unwrap();
        let spec = Spec { ports: resolve_ports(vec![publish]).unwrap(), ..spec() };
        let text = SpecRecord::from(&spec).to_json();
        assert_eq!(Spec::try_from(SpecRecord::from_json(&text).unwrap()).unwrap(), spec);
    }

    #[test]
    fn what_is_no_spec_is_refused() {
        let text = SpecRecord::from(&spec()).to_json();
        for wrong in [
            "{}".to_owned(),
            text.replace("restrictive", "lax"),
            text.replacen('{', "{\"more\":1,", 1),
        ] {
            assert!(SpecRecord::from_json(&wrong).is_err(), "{wrong}");
        }
        for (from, to) in
            [("2000", "0"), ("67108864", "0"), ("\"value\":64", "\"value\":5000000000")]
        {
            assert!(text.contains(from), "{text}");
            let record = SpecRecord::from_json(&text.replace(from, to)).unwrap();
            assert!(Spec::try_from(record).is_err(), "{to}");
        }
    }
}
