//! Whether Firecracker's machines can be had here.

use agentkernel_containers::{ALWAYS, NO_LANDLOCK};
use agentkernel_core::{BootError, LimitInForce, LimitKind, Limited, Network, Probe, Wall};

use crate::jail::Kind;
use crate::parts::{Parts, check_kvm};

pub fn probe() -> Probe {
    match check_kvm().and_then(|()| Parts::find()) {
        Ok(_) => Probe::Ready {
            walls: walls(&Network::None, true),
            limits: [LimitKind::Cpus, LimitKind::Memory, LimitKind::Pids, LimitKind::Disk]
                .map(|kind| LimitInForce {
                    kind,
                    value: 0,
                    by: Limited::Exactly("virtual machine".into()),
                })
                .into(),
            notes: Kind::possible().note().into_iter().collect(),
        },
        Err(BootError::Unavailable { why, fix } | BootError::Refused { why, fix }) => {
            Probe::Unavailable { why, fix }
        }
        Err(error @ BootError::Failed { .. }) => {
            Probe::Unavailable { why: error.to_string(), fix: "please report this".into() }
        }
    }
}

/// The walls around a machine, which has no other users than its own.
pub fn walls(network: &Network, has_landlock: bool) -> Vec<Wall> {
    let network = match network {
        Network::None => None,
        _ => Some("the spec asks for a network".to_owned()),
    };
    let landlock = (!has_landlock).then(|| NO_LANDLOCK.to_owned());
    let others = [
        Wall::new("network-namespace", network),
        Wall::new("user-namespace", None),
        Wall::new("landlock", landlock),
    ];
    let all = ["virtual-machine"].into_iter().chain(ALWAYS);
    all.map(|name| Wall::new(name, None)).chain(others).collect()
}
