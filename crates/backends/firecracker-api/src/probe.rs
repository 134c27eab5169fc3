//! Whether Firecracker's machines can be had here.

use agentkernel_containers::{ALWAYS, NO_LANDLOCK};
use agentkernel_core::{LimitInForce, LimitKind, Limited, Network, Probe, Wall};
use agentkernel_sys::machine;

use crate::jail::Kind;
use crate::parts::{self, Check, MKE2FS};

pub fn probe() -> Probe {
    let missing: Vec<_> = parts::checks()
        .into_iter()
        .filter_map(|Check { name, found }| Some((name, found.err()?)))
        .collect();
    let (kept, missing): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|(name, _)| *name == MKE2FS);
    let notes = kept.into_iter().map(|(_, (why, fix))| {
        format!("sandboxes that are kept (create) can't be made: {why}: {fix}")
    });
    if missing.is_empty() {
        let nested = machine::is_virtual().then(|| machine::NESTED.to_owned());
        let exactly =
            |kind| LimitInForce { kind, value: 0, by: Limited::Exactly("virtual machine".into()) };
        return Probe::Ready {
            walls: walls(&Network::None, true),
            limits: [LimitKind::Cpus, LimitKind::Memory, LimitKind::Pids, LimitKind::Disk]
                .map(exactly)
                .into(),
            notes: notes.chain(Kind::possible().note()).chain(nested).collect(),
        };
    }
    // Everything at once, so that nobody has to come back for each.
    let (why, fix): (Vec<_>, Vec<_>) = missing.into_iter().map(|(_, told)| told).unzip();
    Probe::Unavailable { why: why.join("; "), fix: fix.join("; ") }
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
