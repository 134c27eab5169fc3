//! Whether a cluster can be had.

use agentkernel_containers::walls;
use agentkernel_core::{BootError, LimitInForce, LimitKind, Limited, Network, Probe};

use crate::client::{Client, LEADER, LIST};
use crate::error::ApiError;
use crate::nodes;
use crate::owner::PREFIX;
use crate::settings::Settings;
use crate::words::{JobStub, Node};

/// Why the processors' limit of a profile is but nearly one.
pub const NOT_RESERVED: &str = "Nomad limits processors by what is reserved of a node's, and that is done \
                                for --cpus alone";

fn limit(kind: LimitKind) -> LimitInForce {
    let by = match kind {
        LimitKind::Cpus => Limited::Nearly { means: "affinity".into(), why: NOT_RESERVED.into() },
        _ => Limited::Exactly("control group".into()),
    };
    LimitInForce { kind, value: 0, by }
}

pub fn probe() -> Probe {
    match look() {
        Ok(notes) => Probe::Ready {
            // As with every Docker that is root's.
            walls: walls(&Network::None, false, None),
            limits: [LimitKind::Cpus, LimitKind::Memory, LimitKind::Pids].map(limit).into(),
            notes,
        },
        Err(BootError::Unavailable { why, fix } | BootError::Refused { why, fix }) => {
            Probe::Unavailable { why, fix }
        }
        Err(error @ BootError::Failed { .. }) => Probe::Unavailable {
            why: error.to_string(),
            fix: "look at the cluster with nomad server members and nomad node status".into(),
        },
    }
}

fn look() -> Result<Vec<String>, BootError> {
    let settings = Settings::find()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|source| crate::error::failed("can't set up a connection", source))?;
    let mut client = Client::new(settings);
    runtime.block_on(async {
        let leader: String = client
            .get("/v1/status/leader", &[], LEADER)
            .await
            .map_err(ApiError::into_boot_error)?
            .body;
        if leader.is_empty() {
            return Err(BootError::Unavailable {
                why: format!("the cluster at {} has no leader", client.settings.address),
                fix: "wait until its servers have elected one, or look at them".into(),
            });
        }
        let _: Vec<JobStub> = client
            .get("/v1/jobs", &[("prefix", PREFIX)], LIST)
            .await
            .map_err(ApiError::into_boot_error)?
            .body;
        match nodes::list(&mut client).await {
            Ok(nodes) => check(&nodes).map(|()| Vec::new()),
            Err(error) if error.is_forbidden() => Ok(vec![
                "the token may not list the cluster's nodes, so that NOMAD_DATACENTERS \
                 has to name their datacenters, and --cpus is refused"
                    .into(),
            ]),
            Err(error) => Err(error.into_boot_error()),
        }
    })
}

/// Refuses a cluster none of whose nodes can run a sandbox.
fn check(nodes: &[Node]) -> Result<(), BootError> {
    let ready = || nodes.iter().filter(|node| node.is_ready());
    if ready().next().is_none() {
        return Err(BootError::Unavailable {
            why: format!("none of the cluster's {} nodes is ready and eligible", nodes.len()),
            fix: "look at them with nomad node status".into(),
        });
    }
    let docker = |node: &&Node| node.drivers.get("docker").is_some_and(|driver| driver.healthy);
    if ready().any(|node| docker(&node)) {
        return Ok(());
    }
    let why = ready().map(|node| match node.drivers.get("docker") {
        Some(driver) if driver.detected => {
            format!("{}: {}", node.name, driver.health_description)
        }
        _ => format!("{}: not detected", node.name),
    });
    let why: Vec<String> = why.collect();
    Err(BootError::Unavailable {
        why: format!("no ready node has a healthy docker driver ({})", why.join("; ")),
        fix: "have Docker run on a node, and look at it with nomad node status".into(),
    })
}
