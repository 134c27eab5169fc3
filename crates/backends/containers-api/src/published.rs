//! The host's ports that lead into a container: what the engine has picked, and why one can't be had.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::{Duration, Instant};

use agentkernel_containers::{Obstacle, process_at, said};
use agentkernel_core::{BootError, Port, Spec};
use bollard::errors::Error;
use bollard::models::{ContainerSummary, PortBinding};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use tokio::time::sleep;

use crate::client::{Client, failed, words};

/// Whether a process takes what comes to a port, and not the kernel alone, by rules of its own.
pub fn is_proxied(client: &Client) -> bool {
    client.product.proxies || client.is_rootless()
}

/// Refuses ports that can't be had, before anything is made. An engine that finds out by itself may
/// harm others by then: Podman 4.3 of root takes rules back that the one who has the port needs, too.
pub fn check(client: &Client, spec: &Spec) -> Result<(), BootError> {
    let proxied = is_proxied(client);
    for port in &spec.ports {
        if port.address.is_ipv6() && !proxied {
            return Err(BootError::Refused {
                why: format!(
                    "{} of root leads nothing from {} into its containers, which have no IPv6 \
                     address",
                    client.product.title,
                    port.host()
                ),
                fix: "publish at an IPv4 address, or use rootless Podman or Docker".into(),
            });
        }
        if let Some(obstacle) = Obstacle::of(port) {
            let passes = match obstacle {
                Obstacle::InUse => is_let_go(client, port),
                // Root's engine may what the caller may not.
                Obstacle::Privileged => !client.is_rootless(),
                Obstacle::NoAddress => false,
            };
            if !passes {
                return Err(obstacle.refusal(port, || user_of(client, port)));
            }
        }
    }
    Ok(())
}

/// The ports of `spec` as a container that runs has them.
pub fn ports(client: &Client, name: &str, spec: &Spec) -> Result<Vec<Port>, BootError> {
    if spec.ports.is_empty() {
        return Ok(Vec::new());
    }
    let untold = format!("{} does not tell the sandbox's ports", client.product.title);
    let inspected = client.docker.inspect_container(name, None::<InspectContainerOptions>);
    let inspected = client.runtime.block_on(inspected).map_err(|error| failed(&untold, &error))?;
    let known = inspected.network_settings.and_then(|network| network.ports).unwrap_or_default();
    let found = |port: &Port| {
        let bindings = known.get(&port.target())?.as_deref()?;
        let fixed = spec.ports.iter().filter(|other| other.target() == port.target());
        let fixed: Vec<_> = fixed.filter_map(|other| other.outside).collect();
        let bound = bindings.iter().filter(|binding| is_at(binding, port.address));
        let mut bound = bound.filter_map(|binding| binding.host_port.as_ref()?.parse().ok());
        let outside = bound.find(|found: &NonZeroU16| match port.outside {
            Some(outside) => outside == *found,
            None => !fixed.contains(found),
        })?;
        Some(Port { outside: Some(outside), ..*port })
    };
    let ports = spec.ports.iter().map(|port| {
        found(port).ok_or_else(|| BootError::Failed {
            what: untold.clone(),
            source: io::Error::other(format!("there is none for {}", port.target())),
        })
    });
    ports.collect()
}

fn is_at(binding: &PortBinding, address: IpAddr) -> bool {
    match binding.host_ip.as_deref().unwrap_or_default() {
        // An engine that was told none: all that there are.
        "" => address.is_unspecified(),
        told => told.parse() == Ok(address),
    }
}

/// Why a container could not be started, if that is for want of a port of the host's.
pub fn refusal(client: &Client, error: &Error, spec: &Spec) -> Option<BootError> {
    let text = words(error);
    let is_about = |port: &&Port| {
        let named = format!(":{}", port.host().port());
        text.split(&named).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    // Where the engine does not say which, it is one of them.
    let port = spec.ports.iter().find(is_about).or(spec.ports.first())?;
    Obstacle::told(&text).map(|obstacle| obstacle.refusal(port, || user_of(client, port)))
}

/// How long an engine may take to let go of the ports of a container that has ended.
const LETTING_GO: Duration = Duration::from_secs(3);

/// Waits for a port that is in use to become free, as it does when whoever has it has ended and the
/// engine has not seen to it yet. While a container that lives has it, nobody waits.
fn is_let_go(client: &Client, port: &Port) -> bool {
    let deadline = Instant::now() + LETTING_GO;
    while Instant::now() < deadline {
        if container_at(client, port).is_some_and(|name| client.lives(&name)) {
            return false;
        }
        // Engines don't tell of it.
        client.runtime.block_on(async { sleep(Duration::from_millis(20)).await });
        if Obstacle::of(port) != Some(Obstacle::InUse) {
            return true;
        }
    }
    false
}

impl Client {
    /// Whether the first process of a container is there, whatever the engine holds of it.
    fn lives(&self, name: &str) -> bool {
        let inspected = self.docker.inspect_container(name, None::<InspectContainerOptions>);
        let Ok(inspected) = self.runtime.block_on(inspected) else { return false };
        let pid = inspected.state.and_then(|state| state.pid).filter(|pid| *pid > 0);
        pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
    }
}

/// Who uses a port of the host's, as far as that can be found out: a container of the same engine, or
/// else a process.
fn user_of(client: &Client, port: &Port) -> Option<String> {
    match container_at(client, port) {
        Some(name) => Some(said(&name, client.is_ours(&name) == Ok(true))),
        None => process_at(port.transport, port.outside?.get()),
    }
}

/// The container of the engine's that has a port.
fn container_at(client: &Client, port: &Port) -> Option<String> {
    let wanted = port.outside.map(NonZeroU16::get);
    let all = client.docker.list_containers(None::<ListContainersOptions>);
    let all = client.runtime.block_on(all).unwrap_or_default();
    let uses = |container: &ContainerSummary| {
        let name = port.transport.name();
        let mut ports = container.ports.iter().flatten();
        ports.any(|port| {
            port.public_port == wanted && port.typ.is_some_and(|typ| typ.as_ref() == name)
        })
    };
    let name = all.into_iter().find(uses)?.names?.into_iter().next()?;
    Some(name.trim_start_matches('/').to_owned())
}
