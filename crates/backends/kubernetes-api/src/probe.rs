//! Whether a cluster can be used.

use agentkernel_core::{
    BootError, Image, LimitInForce, LimitKind, Limited, Limits, Network, Probe, Profile,
    RootAccess, Spec, User, Wall,
};
use kube::api::PostParams;
use tokio::time::timeout;

use crate::boot::{FAR, NO_PIDS};
use crate::client::{Client, PATIENCE, failed, runtime};

use crate::pod::{Parts, pod};
use crate::settings::Settings;

pub fn probe() -> Probe {
    match try_it() {
        Ok(notes) => Probe::Ready {
            walls: walls(
                &Network::None,
                false,
                Some("whether its kernel has Landlock shows when a pod runs"),
            ),
            limits: [LimitKind::Cpus, LimitKind::Memory, LimitKind::Pids, LimitKind::Disk]
                .map(|kind| LimitInForce { kind, value: 0, by: means(kind) })
                .into(),
            notes,
        },
        Err(BootError::Unavailable { why, fix } | BootError::Refused { why, fix }) => {
            Probe::Unavailable { why, fix }
        }
        Err(error @ BootError::Failed { .. }) => Probe::Unavailable {
            why: error.to_string(),
            fix: "please report this, with the cluster's version".into(),
        },
    }
}

/// Has the cluster say whether it would take a pod, without one being made: no image is known that there
/// is.
fn try_it() -> Result<Vec<String>, BootError> {
    let settings = Settings::read()?;
    let image = settings.agent_image()?.to_owned();
    runtime()?.block_on(async {
        let client = Client::find(settings).await?;
        let pods = client.pods();
        let parts = Parts {
            name: "agentkernel-probe",
            owner: &agentkernel_far::owner(),
            reference: &image,
            agent_image: &image,
            key: "",
            user: (1000, 1000),
            kept: false,
            deadline: 60,
        };
        let pod = pod(&any(), &client.settings, &parts);
        let pod = serde_json::from_value(pod).map_err(|e| failed("can't say what a pod is", e))?;
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        match timeout(PATIENCE, pods.create(&dry, &pod)).await {
            Ok(Ok(_)) => Ok(vec![FAR.into()]),
            Ok(Err(error)) => Err(client.refusal("create", "pods", &error)),
            Err(_) => Err(BootError::Unavailable {
                why: format!("the cluster at {} does not answer", client.cluster),
                fix: "see that it runs and that the kubeconfig leads there".into(),
            }),
        }
    })
}

/// What any pod is.
fn any() -> Spec {
    Spec {
        profile: Profile::Moderate,
        image: Image::Reference(String::new()),
        network: Network::None,
        ports: Vec::new(),
        root: RootAccess::ReadOnly,
        mounts: Vec::new(),
        directory: None,
        user: User::Unprivileged,
        environment: Default::default(),
        limits: Limits::default(),
        strict: false,
    }
}

/// The walls around a pod.
pub fn walls(network: &Network, own_users: bool, no_landlock: Option<&str>) -> Vec<Wall> {
    let mut walls = agentkernel_containers::walls(network, own_users, no_landlock);
    for wall in &mut walls {
        match &*wall.name {
            "user-namespace" if wall.missing.is_some() => {
                wall.missing = Some("pods have the node's own users".into());
            }
            "network-namespace" if wall.missing.is_none() => {
                wall.missing = Some(
                    "a pod has a network; its commands get no sockets of it, and a policy of the \
                     cluster's denies all, if its plugin enforces that"
                        .into(),
                );
            }
            _ => {}
        }
    }
    walls
}

/// By what means a limit holds.
fn means(kind: LimitKind) -> Limited {
    match kind {
        LimitKind::Cpus | LimitKind::Memory => Limited::Exactly("control group".into()),
        LimitKind::Pids => Limited::Nowise { why: NO_PIDS.into() },
        LimitKind::Disk => Limited::Nowise { why: "the kubelet only looks now and then".into() },
    }
}
