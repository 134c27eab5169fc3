//! What an agent in the place would read of it, and make in it, by the engine's own archives.

use std::collections::BTreeMap;
use std::io::{self, Read};

use agentkernel_containers::{AboutPlace, FarAbout, Resident, name_lines};
use agentkernel_core::BootError;
use bollard::body_full;
use bollard::errors::Error;
use bollard::models::HostConfig;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder,
    InspectContainerOptions, UploadToContainerOptionsBuilder,
};
use futures_util::StreamExt;

use super::{ENV, SHELL, has_own_users};
use crate::client::{Client, failed, status, words};

/// The most of a list of users that anybody needs.
const MOST: usize = 256 << 10;

/// What the agent says first: what the image's users are, and what limits the engine says that it has
/// put in force.
pub fn about(client: &Client, name: &str) -> io::Result<FarAbout> {
    let info = client.info().map_err(io::Error::other)?;
    let passwd = client.read(name, "/etc/passwd").map_err(told)?;
    let group = client.read(name, "/etc/group").map_err(told)?;
    let inspected = client.docker.inspect_container(name, None::<InspectContainerOptions>);
    let found = client.runtime.block_on(inspected).map_err(told)?;
    let HostConfig { nano_cpus, memory, pids_limit, .. } = found.host_config.unwrap_or_default();
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let limit = |value| number(value).filter(|value| *value > 0);
    Ok(FarAbout {
        // Nobody in it can look at those.
        about: AboutPlace { passwd, group, namespaces: BTreeMap::new() },
        own_users: has_own_users(&info),
        has_landlock: false,
        cpu: limit(nano_cpus).map(|nanos| nanos / 1_000_000),
        memory: limit(memory),
        pids: limit(pids_limit),
        // Nothing of this machine can be mounted there.
        mounts: Vec::new(),
        environment: Vec::new(),
        directory: "/".into(),
    })
}

/// Makes a home for a user who has none, and a name for one whom the image does not know. An image
/// that can't be written to does without.
pub fn settle(client: &Client, name: &str, user: &Resident, about: &AboutPlace) -> io::Result<()> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut empty = true;
    let mut put = |path: &str, text: &str, mode, kind, uid, gid| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        empty = false;
        archive.append_data(&mut header, path.trim_start_matches('/'), text.as_bytes())
    };
    if !client.has(name, &user.home).map_err(told)? {
        let (uid, gid) = (user.uid.into(), user.gid.into());
        put(&user.home, "", 0o755, tar::EntryType::Directory, uid, gid)?;
    }
    let lines = name_lines(user, about);
    let lists = [("/etc/passwd", &about.passwd, lines.0), ("/etc/group", &about.group, lines.1)];
    for (path, list, line) in lists {
        // One that is none, or is longer than was read, stays as it is.
        if let Some(line) = line.filter(|_| !list.is_empty() && list.len() < MOST) {
            put(path, &format!("{list}{line}"), 0o644, tar::EntryType::Regular, 0, 0)?;
        }
    }
    if empty {
        return Ok(());
    }
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let body = body_full(archive.into_inner()?.into());
    let put = client.docker.upload_to_container(name, Some(options), body);
    match client.runtime.block_on(put) {
        Err(error) if !words(&error).contains("read-only") => Err(told(error)),
        _ => Ok(()),
    }
}

impl Client {
    /// Refuses a container whose image lacks what an exec takes, before it is started.
    pub fn refuse_without_shell(&self, name: &str, machine: &str) -> Result<(), BootError> {
        for path in [SHELL, ENV] {
            let there = self.has(name, path);
            if !there.map_err(|error| failed("can't look into the image", &error))? {
                return Err(BootError::Refused {
                    why: format!(
                        "the image has no {path}, without which no command can be started in it: {} at \
                         {} is on a machine that the agent is not for ({machine}), so that commands \
                         are the engine's own exec",
                        self.product.title, self.host
                    ),
                    fix:
                        "use an image with a shell and env, or an engine on a machine like this one"
                            .into(),
                });
            }
        }
        Ok(())
    }

    /// Whether something is at `path` in a container.
    fn has(&self, name: &str, path: &str) -> Result<bool, Error> {
        let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
        let told = self.docker.get_container_archive_info(name, Some(options));
        match self.runtime.block_on(told) {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A file of a container's, or as much of it as anybody needs; nothing if it is none.
    fn read(&self, name: &str, path: &str) -> Result<String, Error> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut pieces = self.docker.download_from_container(name, Some(options));
        let archive = self.runtime.block_on(async {
            let mut archive = Vec::new();
            while archive.len() < MOST + 1024 {
                match pieces.next().await {
                    Some(Ok(piece)) => archive.extend_from_slice(&piece),
                    Some(Err(error)) if status(&error) == Some(404) => break,
                    Some(Err(error)) => return Err(error),
                    None => break,
                }
            }
            Ok(archive)
        })?;
        let mut archive = tar::Archive::new(&archive[..]);
        let entry = archive.entries().ok().and_then(|mut all| all.next()?.ok());
        let mut text = Vec::new();
        if let Some(entry) = entry.filter(|entry| entry.header().entry_type().is_file()) {
            // It may be cut short.
            let _ = entry.take(MOST as u64).read_to_end(&mut text);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn told(error: Error) -> io::Error {
    io::Error::other(words(&error))
}
