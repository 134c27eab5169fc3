//! Who comes, and what opens what.

use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use serde_json::json;

use super::good::*;
use super::server::{Reply, Request, Server};
use super::*;

#[test]
fn a_blob_behind_another_host_is_fetched_without_the_token() {
    let good = Good::new();
    let answers = good.clone();
    let elsewhere = Server::new(move |request| {
        let range = request.header("range").is_some();
        let cut = (!range && is_layer(&answers, request)).then_some(SIZE / 2);
        Reply { cut, ..answers.answer(request) }
    });
    let there = elsewhere.host.clone();
    let server = guarded(
        2 + 2 * LAYERS,
        |_| (),
        move |request| {
            let digest = request.path.split("/blobs/").nth(1)?;
            let place = format!("http://{there}/blobs/{digest}");
            Some(Reply::new(307, "").with("Location", place))
        },
    );
    let pulled = pull_from(&server).unwrap();
    assert_eq!(pulled.manifest, Digest::of(&good.manifest));
    let asked = elsewhere.asked("");
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
    assert_eq!(ranges.len(), LAYERS);
    assert_eq!(server.asked("/token").len(), 1);
}

/// A registry that gives whoever asks a token. The first is good for so many answers.
fn guarded(
    answers: usize,
    turned_away: impl Fn(&Request) + Send + Sync + 'static,
    play_up: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    let good = Good::new();
    let given = AtomicUsize::new(0);
    let used = AtomicUsize::new(0);
    Server::new(move |request| {
        let host = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::new(200, json!({"token": format!("token-{number}")}).to_string());
        }
        let number = given.load(Ordering::Relaxed);
        let is_good = || number > 1 || used.fetch_add(1, Ordering::Relaxed) < answers;
        let expected = format!("Bearer token-{number}");
        if request.header("authorization") == Some(&expected) && is_good() {
            return play_up(request).unwrap_or_else(|| good.answer(request));
        }
        turned_away(request);
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="the service",scope="repository:x/y:pull""#
        );
        Reply::new(401, "{}").with("WWW-Authenticate", challenge)
    })
}

#[test]
fn one_token_does_for_all_that_are_fetched_at_once() {
    let server = guarded(2 + LAYERS, |_| (), |_| None);
    let registry = from(&server);
    pull(&registry, &Store::new(), "").unwrap();
    let tokens = server.asked("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?scope=repository%3Ax%2Fy%3Apull&service=the+service");
    // By now it is used up.
    pull(&registry, &Store::new(), "").unwrap();
    assert_eq!(server.asked("/token").len(), 2);
}

#[test]
fn a_token_that_is_used_up_is_renewed_once_for_all_that_are_turned_away() {
    // Each layer is asked for with the first token, before any of them is answered.
    let all = Barrier::new(LAYERS);
    let wait = move |request: &Request| {
        if request.header("authorization") == Some("Bearer token-1") {
            all.wait();
        }
    };
    let server = guarded(2, wait, |_| None);
    pull_from(&server).unwrap();
    assert_eq!(server.asked("/token").len(), 2);
}

#[test]
fn who_gives_no_token_is_told_of() {
    for (reply, expected) in [
        (Reply::new(401, r#"{"details":"who are you"}"#), "there are no credentials for it"),
        (Reply::new(403, "{}"), "does not hand out image x/y:1"),
        (Reply::new(200, "{}"), "there is no token in what gives tokens"),
        (Reply::new(200, r#"{"token":"a\nb"}"#), "does not hand out image x/y:1"),
        (
            Reply { is_endless: true, ..Reply::new(200, vec![b' '; 65536]) },
            "more than 262144 bytes",
        ),
        (Reply::new(500, "{}"), "answers with 500; it was tried 5 times"),
    ] {
        let server = Server::new(move |request| match request.path.starts_with("/token") {
            true => reply.clone(),
            false => {
                let realm =
                    format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
                Reply::new(401, "{}").with("WWW-Authenticate", realm)
            }
        });
        let said = from(&server).top().unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    // One that is never enough, and one that says nothing of how to come in.
    let server = Server::new(|request| match request.path.starts_with("/token") {
        true => Reply::new(200, r#"{"access_token":"hunter2"}"#),
        false => {
            let realm =
                format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
            Reply::new(401, "{}").with("WWW-Authenticate", realm)
        }
    });
    let said = from(&server).top().unwrap_err().to_string();
    assert!(said.contains("is not enough") && !said.contains("hunter2"), "{said}");
    let server = Server::new(|_| Reply::new(401, "{}"));
    let said = from(&server).top().unwrap_err().to_string();
    assert!(said.contains("there are no credentials"), "{said}");
}

#[test]
fn an_identity_is_exchanged_for_a_token() {
    let good = Good::new();
    let server = Server::new(move |request| {
        let host = request.header("host").unwrap();
        if request.path == "/token" {
            return Reply::new(200, r#"{"access_token":"the-token"}"#);
        }
        if request.header("authorization") == Some("Bearer the-token") {
            return good.answer(request);
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
        Reply::new(401, "{}").with("WWW-Authenticate", challenge)
    });
    let store = Store::new();
    fs::create_dir_all(&store.folder).unwrap();
    let config = json!({"auths": {&server.host: {"identitytoken": "hunter 2&"}}});
    fs::write(store.folder.join("config.json"), config.to_string()).unwrap();
    let name = format!("{}/x/y:1", server.host);
    let variables = [("DOCKER_CONFIG", store.folder.to_str().unwrap()), ("PULL", &name)];
    let output = apart("pull_what_is_named", &variables).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("pulled sha256:"), "{said}");
    let asked = server.asked("/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "POST");
    let expected = "scope=repository%3Ax%2Fy%3Apull&service=s&grant_type=refresh_token&\
                    client_id=agentkernel&refresh_token=hunter+2%26";
    assert_eq!(asked[0].body, expected);
}

#[test]
fn a_registry_that_repeats_what_it_was_shown_is_not_quoted() {
    let said = |words: &str| json!({"errors": [{"message": words}]}).to_string();
    let server = Server::new(move |request| match request.header("authorization") {
        _ if request.path.starts_with("/token") => Reply::new(200, r#"{"token":"hunter2"}"#),
        Some(shown) if request.path.contains("/blobs/") => Reply::new(418, said(shown)),
        Some(_) => Reply::new(403, said("no, hunter2")),
        None => {
            let realm =
                format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
            Reply::new(401, said("who?")).with("WWW-Authenticate", realm)
        }
    });
    let registry = from(&server);
    let said = registry.top().unwrap_err().to_string();
    assert!(said.contains("does not hand out") && !said.contains("hunter2"), "{said}");
    let said = registry.small(&Good::new().part(0)).unwrap_err().to_string();
    assert!(said.ends_with("answers with 418") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_password_is_not_repeated() {
    let server = Server::new(|request| {
        let said = json!({"errors": [{"message": "hunter2 is wrong"}]}).to_string();
        assert!(request.header("authorization").is_none_or(|shown| shown == "Basic dTpodW50ZXIy"));
        Reply::new(401, said).with("WWW-Authenticate", "Basic realm=\"x\"")
    });
    let store = Store::new();
    fs::create_dir_all(&store.folder).unwrap();
    let config = json!({"auths": {&server.host: {"username": "u", "password": "hunter2"}}});
    fs::write(store.folder.join("config.json"), config.to_string()).unwrap();
    let name = format!("{}/x/y:1", server.host);
    let variables = [("DOCKER_CONFIG", store.folder.to_str().unwrap()), ("PULL", &name)];
    let said = String::from_utf8(apart("pull_what_is_named", &variables).output().unwrap().stdout);
    let said = said.unwrap();
    assert!(said.contains("are not enough") && !said.contains("hunter2"), "{said}");
    assert_eq!(server.asked("/manifests/").len(), 2);
}
