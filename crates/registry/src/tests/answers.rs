//! What registries answer that is not well.

use std::thread;
use std::time::{Duration, Instant};

use super::good::*;
use super::server::Reply;
use super::*;

#[test]
fn a_registry_that_is_well_is_asked_once_for_each_part() {
    let (good, server) = registry(|_, _| None);
    let pulled = pull_from(&server).unwrap();
    assert_eq!(pulled.manifest, Digest::of(&good.manifest));
    assert_eq!(pulled.came, (LAYERS * SIZE) as u64);
    assert_eq!(server.asked("").len(), 2 + LAYERS);
}

#[test]
fn whoever_asks_to_be_left_alone_is_left_alone_for_as_long() {
    let (_, server) = registry(|request, number| {
        (is_manifest(request) && number < 1).then(|| Reply::new(429, "{}").with("Retry-After", "1"))
    });
    pull_from(&server).unwrap();
    let asked = server.asked("/manifests/");
    assert_eq!(asked.len(), 2);
    assert!(asked[1].when - asked[0].when >= Duration::from_secs(1));
}

#[test]
fn whoever_asks_for_an_hour_is_not_waited_for() {
    let said = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#;
    let (_, server) = registry(move |_, _| Some(Reply::new(429, said).with("Retry-After", "3600")));
    let error = pull_from(&server).unwrap_err();
    let host = &server.host;
    let expected = format!("{host} asks to be left alone for 3600 s (pull rate limit)");
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.asked("").len(), 1);
}

#[test]
fn passing_errors_pass() {
    for status in [500, 502, 503, 504, 429, 408] {
        let (_, server) =
            registry(move |_, number| (number < 4).then(|| Reply::new(status, "down")));
        pull_from(&server).unwrap();
        assert_eq!(server.asked("/manifests/").len(), 5, "{status}");
    }
}

#[test]
fn errors_that_stay_are_told_with_how_often_it_was_tried() {
    let (_, server) = registry(|_, _| Some(Reply::new(503, "down")));
    let error = pull_from(&server).unwrap_err();
    let expected = format!("{} answers with 503; it was tried 5 times", server.host);
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.asked("").len(), 5);
    let (_, server) = registry(|_, _| Some(Reply::new(418, "{}")));
    let error = pull_from(&server).unwrap_err();
    assert_eq!(error.to_string(), format!("{} answers with 418", server.host));
    assert_eq!(server.asked("").len(), 1);
}

#[test]
fn no_more_is_taken_than_what_was_announced() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        is_layer(&good, request).then(|| Reply { is_endless: true, ..good.answer(request) })
    });
    let store = Store::new();
    let error = fetch(&from(&server), &store, &good.part(0)).unwrap_err();
    assert!(error.to_string().contains(&format!("of {SIZE} bytes has more")), "{error}");
    let (_, server) =
        registry(|_, _| Some(Reply { is_endless: true, ..Reply::new(200, vec![b' '; 65536]) }));
    let error = pull_from(&server).unwrap_err();
    assert!(error.to_string().contains("more than 4194304 bytes"), "{error}");
}

#[test]
fn what_is_no_manifest_is_told() {
    let json = |kind: &str, body: &str| Reply::new(200, body).with("Content-Type", kind);
    for (reply, expected) in [
        (
            json("text/html; charset=utf-8", "<html>"),
            "is no answer of a registry: it is a page for people",
        ),
        (json("application/json", "<html>"), "it is no JSON"),
        (json("application/json", "[]"), "it is no JSON"),
        (
            json("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}"),
            "of an unknown kind: application/vnd.docker.distribution.manifest.v1+prettyjws",
        ),
        (json("application/json", r#"{"mediaType":"a\nb"}"#), "of an unknown kind: a b"),
        (
            json("application/json", "{}").with("Docker-Content-Digest", Digest::of(b"").as_str()),
            "sends something else than sha256:e3b0c442",
        ),
    ] {
        let (_, server) = registry(move |_, _| Some(reply.clone()));
        let said = from(&server).top().unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
        assert_eq!(server.asked("").len(), 1, "{expected}");
    }
}

#[test]
fn what_is_asked_for_by_its_digest_is_that() {
    let (good, server) = registry(|_, _| None);
    let digest = Digest::of(&good.manifest);
    let open =
        |digest: &Digest| impatient(&format!("{}/x/y@{digest}", server.host), &anybody(), QUICK);
    assert_eq!(open(&digest).top().unwrap().0, good.manifest);
    let other = Digest::of(b"other");
    let said = open(&other).top().unwrap_err().to_string();
    assert!(said.contains(other.as_str()) && said.contains(digest.as_str()), "{said}");
}

#[test]
fn who_leads_on_and_on_is_not_followed() {
    let (_, server) = registry(|request, number| {
        Some(Reply::new(302, "").with("Location", format!("{}?{number}", request.path)))
    });
    let said = pull_from(&server).unwrap_err().to_string();
    assert!(said.contains("it leads on and on"), "{said}");
}

#[test]
fn who_is_not_there_is_said_not_to_be() {
    let once = Patience { tries: 1, ..QUICK };
    let (_, server) = registry(|_, _| None);
    server.die();
    let registry = impatient(&format!("{}/x", server.host), &anybody(), once);
    let said = registry.top().unwrap_err().to_string();
    assert!(said.contains("can't be reached: Connection refused"), "{said}");
    let registry = impatient("registry.invalid/x", &anybody(), once);
    let error = registry.top().unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("registry.invalid can't be reached: its name can't be looked up"),
        "{said}"
    );
    assert!(error.hint().contains("the registry's name"), "{}", error.hint());
}

#[test]
fn a_signal_that_waits_ends_a_pull() {
    let (_, server) = registry(|_, _| {
        let drip = Some(Duration::from_secs(60));
        Some(Reply { cut: Some(1), drip, ..Reply::new(200, "{}") })
    });
    let name = format!("{}/x/y:1", server.host);
    let mut child = apart("pull_what_is_named", &[("PULL", &name)]).spawn().unwrap();
    while server.asked("/manifests/").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended before it asked");
        thread::yield_now();
    }
    let began = Instant::now();
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("failed: it was interrupted while it was fetched"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(5));
    child.wait().unwrap();
}
