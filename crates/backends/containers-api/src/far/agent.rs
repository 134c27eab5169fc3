//! The agent's program, where an engine can't see this machine's files.
//!
//! It is put into a volume of the engine's once, which all places of this program's version mount
//! read-only: it is larger than anything else that a run has to send. The volume stays until another
//! version's program sweeps it.
//!
//! An empty volume beside it, which is made last, says that it is filled. Who fills one has the
//! container of its name meanwhile, of which there can be only one.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use agentkernel_containers::AGENT;
use agentkernel_core::{BootError, hex};
use bollard::body_full;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptions,
    UploadToContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::future::join;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::boot::is_taken;
use crate::client::{Client, failed, status};
use crate::config::{LABEL, agents_volume, seal};
use crate::door;

/// How long it may take to fill one.
const FILLING: Duration = Duration::from_secs(60);

impl Client {
    /// The name of a volume with the agent in it. To fill one takes a container of `image`.
    pub fn agent_volume(&self, image: &str) -> Result<String, BootError> {
        let unread =
            |source| BootError::Failed { what: "can't read the agent's program".into(), source };
        let program = door::agent().map_err(unread)?;
        let name = name_of(&fs::metadata(&program).map_err(unread)?);
        // Whoever was waited for may have been killed.
        for _ in 0..3 {
            let there = self.has_agent(&name);
            if there.map_err(|e| failed("can't look for the agent's program there", &e))? {
                return Ok(name);
            }
            let program = fs::read(&program).and_then(|program| archive(&program));
            let filled = self.fill(&name, image, &program.map_err(unread)?);
            filled.map_err(|error| failed("can't put the agent's program there", &error))?;
        }
        Ok(name)
    }

    /// Whether all of it is there.
    fn has_agent(&self, name: &str) -> Result<bool, Error> {
        let full = sign(name);
        let [volume, sign] = [name, &full].map(|name| self.docker.inspect_volume(name));
        let (volume, sign) = self.runtime.block_on(join(volume, sign));
        let is_there = |found: Result<_, Error>| match found {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(error),
        };
        let (volume, sign) = (is_there(volume)?, is_there(sign)?);
        if sign && !volume {
            // Somebody else has removed the other one. It would be a lie as soon as that is made anew.
            self.remove_volume(&full)?;
        }
        Ok(volume && sign)
    }

    fn make_volume(&self, name: &str) -> Result<(), Error> {
        let volume = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels(name)),
            ..Default::default()
        };
        self.runtime.block_on(self.docker.create_volume(volume)).map(drop)
    }

    fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let removed = self.docker.remove_volume(name, None::<RemoveVolumeOptions>);
        match self.runtime.block_on(removed) {
            // Somebody else was faster.
            Err(error) if status(&error) == Some(404) => Ok(()),
            removed => removed,
        }
    }

    /// Fills it, or waits for somebody else who does: whoever has made the container of its name.
    fn fill(&self, name: &str, image: &str, archive: &[u8]) -> Result<(), Error> {
        let container = ContainerCreateBody {
            image: Some(image.to_owned()),
            // It is never started.
            entrypoint: Some(vec![AGENT.into()]),
            labels: Some(labels(name)),
            host_config: Some(HostConfig {
                mounts: Some(vec![agents_volume(name, false)]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        self.make_volume(name)?;
        let made = self.docker.create_container(Some(options), container);
        match self.runtime.block_on(made) {
            Err(error) if is_taken(&error) => {
                self.await_removal(name);
                return Ok(());
            }
            made => drop(made?),
        }
        let filled = self.fill_alone(name, archive);
        // One that stays is found by whoever comes next.
        let _ = self.remove(name);
        filled
    }

    fn fill_alone(&self, name: &str, archive: &[u8]) -> Result<(), Error> {
        // What others have filled meanwhile may be in use, and must not be written to.
        if self.has_agent(name)? {
            return Ok(());
        }
        let folder = Path::new(AGENT).parent().unwrap_or(Path::new("/")).to_string_lossy();
        let to = UploadToContainerOptionsBuilder::new().path(&folder).build();
        let body = body_full(archive.to_vec().into());
        self.runtime.block_on(self.docker.upload_to_container(name, Some(to), body))?;
        self.make_volume(&sign(name))
    }

    /// Waits until somebody else has filled it. Whoever was killed at it is not waited for any longer.
    fn await_removal(&self, name: &str) {
        let options = WaitContainerOptionsBuilder::new().condition("removed").build();
        let done = self.runtime.block_on(async {
            let mut waited = pin!(self.docker.wait_container(name, Some(options)));
            timeout(FILLING, waited.next()).await
        });
        if done.is_err() {
            let _ = self.remove(name);
        }
    }

    /// Removes what earlier versions of the program were put into, unless it is in use.
    pub fn sweep_agents(&self) -> Vec<String> {
        let Ok(program) = door::agent() else { return Vec::new() };
        let own = fs::metadata(&program).map(|found| name_of(&found)).ok();
        let filters = [("label".to_owned(), vec![format!("{FROM}={}", program.display())])].into();
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let listed = self.runtime.block_on(self.docker.list_volumes(Some(options)));
        let volumes = listed.ok().and_then(|listed| listed.volumes).unwrap_or_default();
        let old = volumes.into_iter().filter(|volume| {
            let sealed = volume.labels.get(LABEL) == Some(&seal(&volume.name));
            let of = volume.name.strip_suffix(FULL).unwrap_or(&volume.name);
            sealed && of.starts_with(PREFIX) && Some(of) != own.as_deref()
        });
        let removed = old.filter(|volume| self.remove_volume(&volume.name).is_ok());
        removed.map(|volume| volume.name).collect()
    }
}

/// The label that names the program's file: another one may be in use by others.
const FROM: &str = "agentkernel-program";

const PREFIX: &str = "agentkernel-agent-";

const FULL: &str = "-full";

/// The name of the volume that says that the one of this name is filled.
fn sign(name: &str) -> String {
    format!("{name}{FULL}")
}

fn labels(name: &str) -> HashMap<String, String> {
    let from = door::agent().unwrap_or_default().to_string_lossy().into_owned();
    [(LABEL.to_owned(), seal(name)), (FROM.to_owned(), from)].into()
}

/// A name that no other program file has. To read all of it would cost each run.
fn name_of(program: &fs::Metadata) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (size, changed, nanos) = (program.size(), program.mtime(), program.mtime_nsec());
    let digest = Sha256::digest(format!("{version} {size} {changed} {nanos} {}", program.ino()));
    let digest = hex(&digest[..8]);
    format!("{PREFIX}{digest}")
}

/// An archive with the program under the agent's name.
fn archive(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    let mut archive = tar::Builder::new(Vec::new());
    let name = Path::new(AGENT).file_name().unwrap_or_default();
    archive.append_data(&mut header, name, program)?;
    archive.into_inner()
}
