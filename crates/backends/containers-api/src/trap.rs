//! Images that an engine must not start.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use agentkernel_core::BootError;
use bollard::query_parameters::ContainerArchiveInfoOptionsBuilder;

use crate::client::{Client, failed, status};

/// Where a runtime puts its devices and, as it does with no other place, links of its own.
const DEVICES: &str = "/dev";

/// How long the engine may take to look.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bit of a directory in the engines' modes, which are Go's.
const DIRECTORY: u32 = 1 << 31;

impl Client {
    /// Refuses a container whose image has a link in place of the directory of devices. A runtime may
    /// follow it on the host, and put links there as root: runc 1.1.5 does, and Podman leaves such a
    /// link as it is. No engine tells of an image's files, so this asks for a container that is made
    /// and not started.
    pub fn refuse_device_link(&self, container: &str) -> Result<(), BootError> {
        if !self.product.keeps_device_links {
            return Ok(());
        }
        let options = ContainerArchiveInfoOptionsBuilder::new().path(DEVICES).build();
        let told = self.docker.get_container_archive_info(container, Some(options));
        let unseen = |what| format!("{} does not tell whether {what}", self.product.title);
        let is_link = match self.runtime.block_on(told) {
            Ok(found) => found.link_target != DEVICES || found.file_mode & DIRECTORY == 0,
            // Nothing is there, or what is there leads nowhere.
            Err(error) if status(&error) == Some(404) => {
                self.leads_nowhere(container).map_err(|source| BootError::Failed {
                    what: unseen("an image has devices"),
                    source,
                })?
            }
            Err(error) => return Err(failed(unseen("an image has devices"), &error)),
        };
        match is_link {
            false => Ok(()),
            true => Err(BootError::Refused {
                why: format!(
                    "{DEVICES} is no directory in this image, and the engine's runtime might write \
                     where it leads on the host"
                ),
                fix: "use another image; one that is made like this is up to no good".into(),
            }),
        }
    }

    /// Whether what the engine does not find is a link all the same, which it tells beside.
    fn leads_nowhere(&self, container: &str) -> io::Result<bool> {
        // One that is elsewhere is not asked like this; without a directory nothing is lost.
        let Some(socket) = &self.socket else { return Ok(true) };
        let mut engine = UnixStream::connect(socket)?;
        engine.set_read_timeout(Some(PATIENCE))?;
        let path = format!("/containers/{container}/archive?path={DEVICES}");
        write!(engine, "HEAD {path} HTTP/1.0\r\nHost: engine\r\n\r\n")?;
        let mut answer = Vec::new();
        engine.take(64 << 10).read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let mut lines = answer.lines();
        if !lines.next().is_some_and(|line| line.contains(" 404 ")) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(lines.any(|line| line.starts_with("x-docker-container-path-stat:")))
    }
}
