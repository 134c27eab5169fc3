//! Whether an engine can be used here.

use agentkernel_containers::{LEFT_OUT, Product, walls};
use agentkernel_core::{BootError, LimitInForce, LimitKind, Limited, Network, Probe};

use bollard::models::SystemInfoCgroupVersionEnum;

use crate::boot::no_landlock;
use crate::client::Client;
use crate::far;

pub fn probe(product: &'static Product) -> Probe {
    match try_it(product) {
        Ok(ready) => ready,
        Err(BootError::Unavailable { why, fix } | BootError::Refused { why, fix }) => {
            Probe::Unavailable { why, fix }
        }
        Err(error @ BootError::Failed { .. }) => Probe::Unavailable {
            why: error.to_string(),
            fix: "please report this, with the engine's version".into(),
        },
    }
}

/// Asks the engine what it can enforce. No container is made for that: it would take an image, and
/// there may be none yet.
fn try_it(product: &'static Product) -> Result<Probe, BootError> {
    let client = Client::connect(product)?;
    let told = client.info()?;
    let own_users = client.is_rootless() || client.is_far() && far::has_own_users(&told);
    let machine = client.is_far().then(|| far::foreign_machine(&told)).flatten();
    let old_groups = told.cgroup_version == Some(SystemInfoCgroupVersionEnum::_1);
    // There they are no ordinary user's to make, and Podman leaves out all limits.
    let groups = !(client.is_rootless() && old_groups);
    let limit = |kind, can: Option<bool>| {
        let by = match can.map(|can| can && groups).or((!groups).then_some(false)) {
            Some(false) => Limited::Nowise {
                why: match groups {
                    true => "the engine says that it can't here".into(),
                    false => "control groups of version 1 are root's alone".into(),
                },
            },
            _ => Limited::Exactly("control group".into()),
        };
        LimitInForce { kind, value: 0, by }
    };
    let driver = told.driver.unwrap_or_default();
    let backing = told.driver_status.unwrap_or_default().into_iter();
    let backing =
        backing.filter(|pair| pair.first().is_some_and(|name| name.starts_with("Backing")));
    let backing = backing.filter_map(|pair| pair.into_iter().nth(1)).next().unwrap_or_default();
    let disk = match (driver.as_str(), backing.as_str()) {
        ("btrfs" | "zfs", _) | (_, "xfs") => Limited::Exactly("storage driver".into()),
        _ => Limited::Nowise { why: format!("the storage driver {driver} can't on {backing}") },
    };
    let no_landlock = match client.is_far() {
        true => Some("whether its kernel has Landlock shows when a sandbox is started"),
        false => no_landlock(),
    };
    let mut walls = match machine {
        Some(_) => far::walls_of_exec(&Network::None, own_users),
        None => walls(&Network::None, own_users, no_landlock),
    };
    if old_groups && !product.parts_old_groups {
        let wall = walls.iter_mut().find(|wall| wall.name == "cgroup-namespace");
        wall.into_iter().for_each(|wall| wall.missing = Some(LEFT_OUT.into()));
    }
    Ok(Probe::Ready {
        walls,
        limits: vec![
            limit(LimitKind::Cpus, told.cpu_cfs_quota),
            limit(LimitKind::Memory, told.memory_limit),
            limit(LimitKind::Pids, told.pids_limit),
            LimitInForce { kind: LimitKind::Disk, value: 0, by: disk },
        ],
        notes: notes(&client, machine.as_deref()),
    })
}

/// What is different with an engine that is not the caller's own, here.
fn notes(client: &Client, machine: Option<&str>) -> Vec<String> {
    let another = "the engine is root's, and you are not: commands that see a project or a volume run as \
                   you, with no further groups of yours, and cow can't be had";
    match client.is_far() {
        true => far::notes(client, machine),
        false => client.is_anothers().then(|| another.into()).into_iter().collect(),
    }
}
