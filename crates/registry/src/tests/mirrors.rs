//! Who is asked before the registry.

use super::good::*;
use super::server::{Reply, Server};
use super::*;

fn mirrors(server: &Server, mirrors: Vec<String>) -> Registry {
    let mut settings = Registries::default();
    settings.0.entry(server.host.clone()).or_default().mirrors = mirrors;
    impatient(&format!("{}/x/y:1", server.host), &settings, QUICK)
}

#[test]
fn mirrors_are_asked_first_and_in_their_order() {
    let (_, server) = registry(|_, _| None);
    let (_, empty) = registry(|_, _| Some(Reply::new(404, "{}")));
    let (_, full) = registry(|_, _| None);
    let (_, dead) = registry(|_, _| None);
    dead.die();
    let folder = format!("{}/hub", full.host);
    let first = vec![dead.host.clone(), empty.host.clone(), folder];
    pull(&mirrors(&server, first), &Store::new(), "").unwrap();
    assert!(server.asked("").is_empty());
    assert_eq!(empty.asked("/v2/x/y/").len(), 2 + LAYERS);
    assert_eq!(full.asked("/v2/hub/x/y/").len(), 2 + LAYERS);

    let registry = mirrors(&server, vec![dead.host.clone(), empty.host.clone()]);
    pull(&registry, &Store::new(), "").unwrap();
    assert_eq!(server.asked("").len(), 2 + LAYERS);

    server.die();
    let registry = mirrors(&server, vec![empty.host.clone()]);
    let said = registry.top().unwrap_err().to_string();
    let expected =
        format!("{} has no image x/y:1; then {} can't be reached", empty.host, server.host);
    assert!(said.starts_with(&expected), "{said}");
}

#[test]
fn a_mirror_that_lies_is_passed_over() {
    let (good, server) = registry(|_, _| None);
    let answers = good.clone();
    let (_, liar) = registry(move |request, _| {
        let mut reply = answers.answer(request);
        let at = reply.body.len() / 2;
        reply.body[at] ^= 1;
        is_layer(&answers, request).then_some(reply)
    });
    let registry = mirrors(&server, vec![liar.host.clone()]);
    pull(&registry, &Store::new(), "").unwrap();
    assert_eq!(server.asked("").len(), LAYERS);
}

#[test]
fn a_proxy_is_asked_for_what_is_elsewhere_and_not_for_what_is_here() {
    let (_, proxy) = registry(|_, _| None);
    let (_, server) = registry(|_, _| None);
    let http = format!("http://{}", proxy.host);
    let name = "registry.invalid/x/y:1";
    let pull = |name: &str| {
        let variables =
            [("http_proxy", http.as_str()), ("PULL", name), ("OPEN", "registry.invalid")];
        let output = apart("pull_what_is_named", &variables).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = pull(name);
    assert!(said.contains("pulled sha256:"), "{said}");
    assert_eq!(proxy.asked("http://registry.invalid/v2/x/y/").len(), 2 + LAYERS);
    let said = pull(&format!("{}/x/y:1", server.host));
    assert!(said.contains("pulled sha256:"), "{said}");
    assert_eq!(proxy.asked("").len(), 2 + LAYERS);
}
