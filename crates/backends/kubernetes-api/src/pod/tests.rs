use std::collections::BTreeMap;

use agentkernel_core::{Asked, Bytes, Image, Limits, Origin, Profile};

use super::*;

fn spec() -> Spec {
    Spec {
        profile: Profile::Moderate,
        image: Image::Reference("debian".into()),
        network: Network::None,
        ports: Vec::new(),
        root: RootAccess::Writable,
        mounts: Vec::new(),
        directory: None,
        user: User::Unprivileged,
        environment: BTreeMap::new(),
        limits: Limits {
            memory: Some(Asked { value: Bytes::mib(64), by: Origin::Profile }),
            ..Limits::default()
        },
        strict: false,
    }
}

fn made(spec: &Spec, settings: &Settings, kept: bool) -> Value {
    let parts = Parts {
        name: "agentkernel-1",
        owner: "me",
        reference: "debian",
        agent_image: "agent",
        key: "0",
        user: (1000, 1000),
        kept,
        deadline: 60,
    };
    pod(spec, settings, &parts)
}

/// By the standard's own list of what "restricted" demands.
#[test]
fn a_pod_passes_the_restricted_standard() {
    let pod = made(&spec(), &Settings::default(), false);
    let own = &pod["spec"];
    assert_eq!(own["securityContext"]["runAsNonRoot"], true);
    assert_eq!(own["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_ne!(own["securityContext"]["runAsUser"], 0);
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(own[field].is_null(), "{field}");
    }
    for container in own["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
        assert_eq!(security["privileged"], false);
        assert!(container["ports"].is_null());
    }
    let volumes = own["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|volume| volume["emptyDir"].is_object()));
}

#[test]
fn nothing_of_the_cluster_is_inside() {
    let pod = made(&spec(), &Settings::default(), false);
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert_eq!(pod["spec"]["enableServiceLinks"], false);
    assert_eq!(pod["spec"]["activeDeadlineSeconds"], 60);
}

#[test]
fn limits_are_the_specs_and_little_is_set_aside() {
    let resources = |settings: &Settings| {
        made(&spec(), settings, false)["spec"]["containers"][2]["resources"].clone()
    };
    let least = resources(&Settings::default());
    assert_eq!(least["limits"], json!({ "memory": "67108864" }));
    assert_eq!(least["requests"], json!({ "cpu": "10m", "memory": "16777216" }));
    let all = resources(&Settings { sets_limits_aside: true, ..Settings::default() });
    assert_eq!(all["requests"]["memory"], "67108864");
}

#[test]
fn settings_are_the_pods() {
    let settings = Settings {
        runtime_class: Some("gvisor".into()),
        service_account: Some("nobody".into()),
        pull_secrets: vec!["registry".into()],
        node_selector: [("disk".into(), "ssd".into())].into(),
        tolerations: vec![json!({ "key": "spot", "operator": "Exists" })],
        ..Settings::default()
    };
    let own = &made(&spec(), &settings, false)["spec"];
    assert_eq!(own["runtimeClassName"], "gvisor");
    assert_eq!(own["serviceAccountName"], "nobody");
    assert_eq!(own["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(own["nodeSelector"]["disk"], "ssd");
    assert_eq!(own["tolerations"][0]["key"], "spot");
}

#[test]
fn what_is_kept_is_not_in_memory() {
    let home = |kept| {
        let pod = made(&spec(), &Settings::default(), kept);
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume["name"] == "home").unwrap()["emptyDir"].clone()
    };
    assert_eq!(home(false), json!({ "medium": "Memory", "sizeLimit": "50331648" }));
    assert_eq!(home(true), json!({}));
}

#[test]
fn nobody_is_root_and_names_are_not_known() {
    let of = |asked: User| user(&asked, (0, 0));
    assert_eq!(of(User::Unprivileged).unwrap(), (1000, 1000));
    assert_eq!(of(User::Named("agent".into())).unwrap(), (1000, 1000));
    assert_eq!(of(User::Ids { uid: 7, gid: 8 }).unwrap(), (7, 8));
    for refused in [User::Caller, User::Ids { uid: 0, gid: 0 }, User::Named("web".into())] {
        assert!(of(refused).is_err());
    }
    assert_eq!(user(&User::Caller, (5, 6)).unwrap(), (5, 6));
}

#[test]
fn a_policy_denies_all_and_goes_with_its_pod() {
    let policy = network_policy("agentkernel-1", "u-i-d", "me");
    assert_eq!(policy["metadata"]["ownerReferences"][0]["uid"], "u-i-d");
    let next = network_policy("agentkernel-1", "d-i-u", "me");
    assert_ne!(policy["metadata"]["name"], next["metadata"]["name"], "that one may be there yet");
    let pod = made(&spec(), &Settings::default(), false);
    let selector = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
    assert!(selector.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value));
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    // No rule, so nothing is let through.
    assert!(policy["spec"]["ingress"].is_null() && policy["spec"]["egress"].is_null());
}
