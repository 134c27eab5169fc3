//! Pulls from the registries that `scripts/lanes/registry.sh` brings up.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Instant;

use agentkernel_unpack::{Platform, bring};

use super::*;

/// What the lane says, or why the test can't run.
fn lane(name: &str) -> Option<String> {
    // Another lane has a registry as well, with other images.
    let found = env::var("TESTKIT_REGISTRY_LOG").and_then(|_| env::var(name)).ok();
    if found.is_none() {
        eprintln!(
            "skipped: {name} is not set; scripts/lanes/registry.sh up DIR, then . DIR/environment"
        );
    }
    found
}

#[test]
fn a_tag_and_its_digest_are_the_same_image() {
    let Some(host) = lane("TESTKIT_REGISTRY") else { return };
    let by_tag =
        pull(&open(&format!("{host}/layers:1"), &anybody()), &Store::new(), machine()).unwrap();
    assert_eq!(by_tag.parts.len(), 5);
    let name = format!("{host}/layers@{}", by_tag.manifest);
    let by_digest = pull(&open(&name, &anybody()), &Store::new(), machine()).unwrap();
    assert_eq!(by_tag, by_digest);
    let packed: usize = by_tag.parts[1..].iter().map(|(_, content)| content.len()).sum();
    assert_eq!(by_tag.came, packed as u64);
    // Whatever its tag means by now, the digest counts.
    let name = format!("{host}/layers:never@{}", by_tag.manifest);
    assert_eq!(pull(&open(&name, &anybody()), &Store::new(), machine()).unwrap(), by_tag);
}

#[test]
fn of_an_index_each_machine_has_its_own() {
    let Some(host) = lane("TESTKIT_REGISTRY") else { return };
    let registry = open(&format!("{host}/index:1"), &anybody());
    let (content, kind) = registry.top().unwrap();
    assert_eq!(kind.as_deref(), Some("application/vnd.oci.image.index.v1+json"));
    let ours = pull(&registry, &Store::new(), machine()).unwrap();
    let other = pull(&registry, &Store::new(), "s390x").unwrap();
    assert_ne!(ours.manifest, other.manifest);
    assert_ne!(ours.manifest, Digest::of(&content));
}

#[test]
fn what_is_packed_with_zstd_comes_as_it_is() {
    let Some(host) = lane("TESTKIT_REGISTRY") else { return };
    if lane("TESTKIT_REGISTRY_ZSTD").is_none() {
        return;
    }
    let pulled = pull(&open(&format!("{host}/zstd:1"), &anybody()), &Store::new(), machine());
    assert_eq!(pulled.unwrap().parts[1].1[..4], [0x28, 0xb5, 0x2f, 0xfd]);
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let Some(host) = lane("TESTKIT_REGISTRY") else { return };
    let none = Digest::of(b"none");
    for (name, what) in [
        ("layers:none".to_owned(), "image layers:none"),
        ("none:1".into(), "image none:1"),
        (format!("layers@{none}"), "sha256:"),
    ] {
        let error = open(&format!("{host}/{name}"), &anybody()).top().unwrap_err();
        assert!(matches!(error, RegistryError::Missing { .. }), "{error}");
        let said = error.to_string();
        assert!(said.starts_with(&format!("{host} has no ")) && said.contains(what), "{said}");
    }
}

#[test]
fn who_is_known_gets_what_is_private() {
    let Some(host) = lane("TESTKIT_REGISTRY_PRIVATE") else { return };
    let user = lane("TESTKIT_REGISTRY_USER").unwrap();
    let password = lane("TESTKIT_REGISTRY_PASSWORD").unwrap();
    let store = Store::new();
    fs::create_dir_all(&store.folder).unwrap();
    let config = store.folder.join("config.json");
    let folder = store.folder.to_str().unwrap();
    let name = format!("{host}/private:1");
    let try_with = |auth: &str, variables: &[(&str, &str)]| {
        fs::write(&config, format!(r#"{{"auths":{{"{host}":{auth}}}}}"#)).unwrap();
        let named = [("PULL", name.as_str())];
        let output = apart("pull_what_is_named", &[variables, &named].concat()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains(&password) && !said.contains("hunter2"), "{said}");
        said
    };
    let docker = [("DOCKER_CONFIG", folder)];
    let good = format!(r#"{{"username":"{user}","password":"{password}"}}"#);
    assert!(try_with(&good, &docker).contains("pulled sha256:"));
    let file = config.to_str().unwrap();
    assert!(try_with(&good, &[("REGISTRY_AUTH_FILE", file)]).contains("pulled sha256:"));

    let bad = format!(r#"{{"username":"{user}","password":"hunter2"}}"#);
    let said = try_with(&bad, &docker);
    let expected =
        format!("failed: {host} does not hand out image private:1: the credentials in {file}");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains(&format!("docker login {host}")), "{said}");

    let said = try_with("{}", &docker);
    assert!(said.contains(&format!("there are no credentials for it ({file})")), "{said}");
    let said = try_with("{}", &[]);
    assert!(said.contains("(/nonexistent/.docker/config.json)"), "{said}");
}

#[test]
fn helpers_are_asked_for_credentials() {
    use std::os::unix::fs::PermissionsExt;

    let Some(host) = lane("TESTKIT_REGISTRY_PRIVATE") else { return };
    let (user, password) =
        (lane("TESTKIT_REGISTRY_USER").unwrap(), lane("TESTKIT_REGISTRY_PASSWORD").unwrap());
    let store = Store::new();
    fs::create_dir_all(&store.folder).unwrap();
    let folder = store.folder.to_str().unwrap();
    let helper = store.folder.join("docker-credential-testkit");
    let script = format!(
        "#!/bin/sh\nread -r name\n[ \"$name\" = {host} ] || exit 1\n\
         echo '{{\"ServerURL\":\"{host}\",\"Username\":\"{user}\",\"Secret\":\"{password}\"}}'\n"
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let name = format!("{host}/private:1");
    let path = format!("{folder}:{}", env::var("PATH").unwrap());
    let variables = [("DOCKER_CONFIG", folder), ("PATH", &path), ("PULL", &name)];
    for config in [
        format!(r#"{{"credHelpers":{{"{host}":"testkit"}}}}"#),
        format!(r#"{{"auths":{{"{host}":{{}}}},"credsStore":"testkit"}}"#),
    ] {
        fs::write(store.folder.join("config.json"), &config).unwrap();
        let output = apart("pull_what_is_named", &variables).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("pulled sha256:"), "{config}: {said}");
    }
}

/// The lines in which a registry was asked for blobs of an image by these tests.
fn blobs_asked(log: &str, repository: &str) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let asked = format!("GET /v2/{repository}/blobs/");
    let lines = text.lines().filter(|line| line.contains(&asked) && line.contains("agentkernel/"));
    lines.map(String::from).collect()
}

#[test]
fn of_twenty_pulls_at_once_each_blob_is_fetched_once() {
    let (Some(host), Some(log)) = (lane("TESTKIT_REGISTRY"), lane("TESTKIT_REGISTRY_LOG")) else {
        return;
    };
    let store = Store::new();
    let name = format!("{host}/agentkernel-test:1");
    let before = blobs_asked(&log, "agentkernel-test").len();
    let all: Vec<_> = thread::scope(|scope| {
        let one = || {
            let registry = open(&name, &anybody());
            bring(&store.images, &registry, &[&name], &Platform::host()).unwrap()
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|one| one.manifest == all[0].manifest));
    let asked = blobs_asked(&log, "agentkernel-test").split_off(before);
    // The layers, and the configuration.
    assert_eq!(asked.len(), all[0].layers.len() + 1, "{asked:#?}");
}

#[test]
#[ignore = "it is started by another one"]
fn pull_until_killed() {
    let (Ok(name), Ok(folder)) = (env::var("PULL"), env::var("STORE")) else { return };
    let store = Store::at(folder.into());
    let registry = open(&name, &anybody());
    let (bytes, _) = registry.top().unwrap();
    let content: Value = serde_json::from_slice(&bytes).unwrap();
    // The largest, of which more comes than fits into what lies between here and there.
    let layer = part(content["layers"].as_array().unwrap().last().unwrap());
    let filling = store.images.fill().unwrap();
    let came = AtomicU64::new(0);
    let tell = |more| {
        if came.fetch_add(more, Ordering::Relaxed) + more > layer.size / 4 {
            println!("a quarter of {} has come", layer.digest);
            // Whoever reads this kills the process; it never gets further.
            loop {
                thread::park();
            }
        }
    };
    let _ = registry.layer(&filling, &layer, &|| false, &tell);
}

#[test]
fn what_a_killed_pull_has_fetched_is_gone_on_with() {
    let (Some(host), Some(log)) = (lane("TESTKIT_REGISTRY"), lane("TESTKIT_REGISTRY_LOG")) else {
        return;
    };
    let store = Store::new();
    let name = format!("{host}/layers:1");
    let folder = store.folder.to_str().unwrap();
    let mut child =
        apart("real::pull_until_killed", &[("PULL", &name), ("STORE", folder)]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.find(|line| line.as_ref().unwrap().contains("a quarter of")).unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let digest = said.split(' ').find(|word| word.starts_with("sha256:")).unwrap();
    let there = store.images.root().join("downloads").join(&digest[7..]).with_extension("part");
    let there = fs::metadata(there).unwrap().len();
    assert!(there > 0);

    let before = fs::read_to_string(&log).unwrap().len();
    let pulled = pull(&open(&name, &anybody()), &store, machine()).unwrap();
    let layer = pulled.parts.iter().find(|(found, _)| found.as_str() == digest).unwrap();
    let sent = format!("/blobs/{digest} HTTP/1.1\" 206 {}", layer.1.len() as u64 - there);
    let log = fs::read_to_string(&log).unwrap();
    assert!(log[before..].contains(&sent), "{sent} is not in {}", &log[before..]);
}

/// Not a test: how long it takes to fetch what is large, and to unpack it as well.
#[test]
#[ignore = "it measures"]
fn speed() {
    let Some(host) = lane("TESTKIT_REGISTRY") else { return };
    let name = format!("{host}/debian:1");
    for _ in 0..5 {
        let (store, registry) = (Store::new(), open(&name, &anybody()));
        let began = Instant::now();
        let content: Value = serde_json::from_slice(&registry.top().unwrap().0).unwrap();
        let filling = store.images.fill().unwrap();
        for layer in content["layers"].as_array().unwrap() {
            registry.layer(&filling, &part(layer), &|| false, &|_| ()).unwrap();
        }
        let fetched = began.elapsed();
        drop(filling);
        let (store, registry) = (Store::new(), open(&name, &anybody()));
        let began = Instant::now();
        bring(&store.images, &registry, &[&name], &Platform::host()).unwrap();
        println!("fetched in {fetched:?}, brought in {:?}", began.elapsed());
    }
}
