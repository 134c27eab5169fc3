//! The nodes of a cluster, as far as a job has to know of them.

use agentkernel_core::BootError;

use crate::client::{Client, NODES};
use crate::words::{Node, NodeCpu};

/// What a job says of nodes.
pub struct Known {
    pub datacenters: Vec<String>,
    /// What a processor is, if that was asked for.
    pub cpu: Option<NodeCpu>,
}

/// What datacenter a cluster has of which nobody says otherwise.
const USUAL: &str = "dc1";

/// Asks as much as is needed.
pub async fn look(client: &mut Client, cpu: bool) -> Result<Known, BootError> {
    let named = client.settings.datacenters.clone();
    if !named.is_empty() && !cpu {
        return Ok(Known { datacenters: named, cpu: None });
    }
    let nodes = match list(client).await {
        Ok(nodes) => nodes,
        // Who may not ask has to know, or has what is usual.
        Err(error) if error.is_forbidden() && !cpu => {
            return Ok(Known { datacenters: vec![USUAL.into()], cpu: None });
        }
        Err(error) => return Err(error.into_boot_error()),
    };
    let mut datacenters = named;
    if datacenters.is_empty() {
        datacenters = nodes.iter().map(|node| node.datacenter.clone()).collect();
        datacenters.sort();
        datacenters.dedup();
    }
    if datacenters.is_empty() {
        datacenters.push(USUAL.into());
    }
    let fitting = nodes.iter().filter(|node| node.is_ready());
    let fitting = fitting.filter(|node| datacenters.contains(&node.datacenter));
    let cpu = cpu.then(|| fitting.filter_map(|node| Some(node.node_resources.as_ref()?.cpu)));
    // The most powerful ones.
    let cpu = cpu.and_then(|all| all.max_by_key(|cpu| cpu.cpu_shares));
    Ok(Known { datacenters, cpu })
}

pub async fn list(client: &mut Client) -> Result<Vec<Node>, crate::error::ApiError> {
    Ok(client.get("/v1/nodes", &[("resources", "true")], NODES).await?.body)
}
