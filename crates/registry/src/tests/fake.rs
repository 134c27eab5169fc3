//! Pulls from a registry that plays up.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Reply, Request, Server};
use super::*;

/// As the real one, in less time.
const QUICK: Patience = Patience {
    connect: Duration::from_secs(5),
    silence: Duration::from_secs(20),
    tries: 5,
    pause: Duration::from_millis(2),
    longest: Duration::from_secs(60),
};

const LAYERS: usize = 3;
/// For those from whom nothing comes.
const HASTY: Patience = Patience { silence: Duration::from_millis(500), ..QUICK };

/// More than what a socket holds, and than what counts as progress.
const SIZE: usize = 3 << 20;

/// An image, and what a registry answers that is well.
#[derive(Clone)]
struct Good {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Arc<Vec<Vec<u8>>>,
    /// Of its layers and its configuration, in this order.
    digests: Vec<Digest>,
}

impl Good {
    fn new() -> Self {
        Self::of_size(SIZE)
    }

    fn of_size(size: usize) -> Self {
        let layer = |seed: usize| {
            let bytes = (0..size).map(|at| (at.wrapping_mul(2_654_435_761 + seed) >> 13) as u8);
            bytes.collect::<Vec<u8>>()
        };
        let layers: Vec<_> = (0..LAYERS).map(layer).collect();
        let config = b"{}".to_vec();
        let all = layers.iter().chain([&config]);
        let digests: Vec<_> = all.map(|content| Digest::of(content)).collect();
        let part = |kind: &str, content: &[u8], digest: &Digest| {
            let kind = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": kind, "digest": digest.as_str(), "size": content.len()})
        };
        let parts = layers.iter().zip(&digests);
        let parts: Vec<_> =
            parts.map(|(layer, digest)| part("layer.v1.tar", layer, digest)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.v1+json", &config, &digests[LAYERS]),
            "layers": parts,
        });
        Self { manifest: manifest.to_string().into_bytes(), config, layers: layers.into(), digests }
    }

    fn part(&self, layer: usize) -> Part {
        let size = self.layers[layer].len() as u64;
        Part { kind: "x".into(), digest: self.digests[layer].clone(), size }
    }

    fn blob(&self, path: &str) -> Option<&[u8]> {
        let wanted = path.split("/blobs/").nth(1)?;
        let found = self.digests.iter().position(|digest| digest.as_str() == wanted)?;
        Some(self.layers.get(found).unwrap_or(&self.config))
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.path.contains("/manifests/") {
            let kind = "application/vnd.oci.image.manifest.v1+json";
            return Reply::new(200, self.manifest.clone()).with("Content-Type", kind);
        }
        let Some(content) = self.blob(&request.path) else { return Reply::new(404, "{}") };
        match request.header("range") {
            None => Reply::new(200, content),
            Some(range) => {
                let first: usize = range[6..range.len() - 1].parse().unwrap();
                let (last, all) = (content.len() - 1, content.len());
                Reply::new(206, &content[first..])
                    .with("Content-Range", format!("bytes {first}-{last}/{all}"))
            }
        }
    }
}

/// A registry that answers well, unless `play_up` has something else.
fn registry(
    play_up: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Good, Server) {
    let good = Good::new();
    let answers = good.clone();
    let count = AtomicUsize::new(0);
    let server = Server::new(move |request| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        play_up(request, number).unwrap_or_else(|| answers.answer(request))
    });
    (good, server)
}

fn from(server: &Server) -> Registry {
    impatient(&format!("{}/x/y:1", server.host), &anybody(), QUICK)
}

fn pull_from(server: &Server) -> Result<Pulled, RegistryError> {
    pull(&from(server), &Store::new(), "")
}

fn fetch(registry: &Registry, store: &Store, part: &Part) -> Result<Vec<u8>, RegistryError> {
    let filling = store.images.fill()?;
    let mut content = Vec::new();
    let file = registry.layer(&filling, part, &|| false, &|_| ())?;
    file.unwrap().read_to_end(&mut content).unwrap();
    Ok(content)
}

fn is_manifest(request: &Request) -> bool {
    request.path.contains("/manifests/")
}

fn is_layer(good: &Good, request: &Request) -> bool {
    request.path.contains("/blobs/") && !request.path.ends_with(good.digests[LAYERS].as_str())
}

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
        let (_, server) = registry(move |_, number| (number < 4).then(|| Reply::new(status, "down")));
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
fn what_breaks_off_is_gone_on_with() {
    let good = Good::new();
    let (_, server) = registry(move |request, _| {
        let is_first = is_layer(&good, request) && request.header("range").is_none();
        is_first.then(|| Reply { cut: Some(SIZE / 2), ..good.answer(request) })
    });
    let pulled = pull_from(&server).unwrap();
    assert_eq!(pulled.came, (LAYERS * SIZE) as u64);
    let asked = server.asked("/blobs/");
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, vec![format!("bytes={}-", SIZE / 2); LAYERS]);
}

#[test]
fn what_ends_early_with_good_manners_is_gone_on_with() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let is_first = is_layer(&good, request) && request.header("range").is_none();
        is_first.then(|| Reply::new(200, &good.blob(&request.path).unwrap()[..SIZE / 3]))
    });
    let content = fetch(&from(&server), &Store::new(), &good.part(0)).unwrap();
    assert_eq!(content, good.layers[0]);
    assert_eq!(server.asked("/blobs/").len(), 2);
}

#[test]
fn who_can_send_no_parts_sends_all_of_it_again() {
    for status in [200, 206] {
        let good = Good::new();
        let (good, server) = registry(move |request, number| {
            if number == 0 {
                return Some(Reply { cut: Some(SIZE / 2), ..good.answer(request) });
            }
            let reply = Reply::new(status, good.blob(&request.path).unwrap());
            // Of the status for parts it is another part, and then there is none.
            let of = if status == 206 { format!("bytes 0-{}/{SIZE}", SIZE - 1) } else { "none".into() };
            request.header("range").map(|_| reply.with("Content-Range", of))
        });
        let content = fetch(&from(&server), &Store::new(), &good.part(0)).unwrap();
        assert_eq!(content, good.layers[0], "{status}");
    }
}

#[test]
fn what_is_wrong_is_told_with_both_digests_and_never_kept() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let mut reply = good.answer(request);
        reply.body[SIZE / 2] ^= 1;
        Some(reply)
    });
    let (store, part) = (Store::new(), good.part(0));
    let error = fetch(&from(&server), &store, &part).unwrap_err();
    let mut wrong = good.layers[0].clone();
    wrong[SIZE / 2] ^= 1;
    let said = error.to_string();
    assert!(said.contains(part.digest.as_str()), "{said}");
    assert!(said.contains(Digest::of(&wrong).as_str()), "{said}");
    assert_eq!(server.asked("/blobs/").len(), 1);
    let downloads = store.images.root().join("downloads");
    let left: Vec<_> = fs::read_dir(downloads).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].file_name().to_str().unwrap().ends_with(".part"));
    assert_eq!(left[0].metadata().unwrap().len(), 0);
}

#[test]
fn what_was_begun_wrongly_is_begun_again() {
    for begun in [1000, SIZE, SIZE + 1] {
        let (good, server) = registry(|_, _| None);
        let (store, part) = (Store::new(), good.part(0));
        drop(store.images.fill().unwrap());
        let path = store.images.root().join("downloads").join(part.digest.hex());
        fs::write(path.with_extension("part"), vec![7; begun]).unwrap();
        let content = fetch(&from(&server), &store, &part).unwrap();
        assert_eq!(content, good.layers[0], "{begun}");
        let asked = server.asked("/blobs/").len();
        assert_eq!(asked, if begun == 1000 { 2 } else { 1 }, "{begun}");
        assert!(path.exists());
    }
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
    let (_, server) = registry(|_, _| Some(Reply { is_endless: true, ..Reply::new(200, vec![b' '; 65536]) }));
    let error = pull_from(&server).unwrap_err();
    assert!(error.to_string().contains("more than 4194304 bytes"), "{error}");
}

#[test]
fn silence_is_waited_for_only_so_long() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let drip = Some(Duration::from_secs(60));
        Some(Reply { cut: Some(100), drip, ..good.answer(request) })
    });
    let registry = impatient(&format!("{}/x/y:1", server.host), &anybody(), HASTY);
    let began = Instant::now();
    let error = fetch(&registry, &Store::new(), &good.part(0)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("nothing came any more; it was tried 5 times"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let asked = server.asked("/blobs/");
    assert_eq!(asked.last().unwrap().header("range"), Some("bytes=400-"));
}

#[test]
fn who_is_slow_may_take_its_time() {
    let good = Good::of_size(60);
    let answers = good.clone();
    let server = Server::new(move |request| {
        Reply { cut: Some(0), drip: Some(Duration::from_millis(20)), ..answers.answer(request) }
    });
    let registry = impatient(&format!("{}/x/y:1", server.host), &anybody(), HASTY);
    let began = Instant::now();
    let content = fetch(&registry, &Store::new(), &good.part(0)).unwrap();
    assert_eq!(content, good.layers[0]);
    assert!(began.elapsed() > HASTY.silence * 2);
    assert_eq!(server.asked("/blobs/").len(), 1);
}

#[test]
fn of_a_registry_that_dies_what_has_come_is_kept() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let drip = Some(Duration::from_secs(60));
        Some(Reply { cut: Some(SIZE / 2), drip, ..good.answer(request) })
    });
    let (store, registry, part) = (Store::new(), from(&server), good.part(0));
    let came = AtomicU64::new(0);
    let filling = store.images.fill().unwrap();
    let error = thread::scope(|scope| {
        let tell = |more| {
            if came.fetch_add(more, Ordering::Relaxed) + more == SIZE as u64 / 2 {
                server.die();
            }
        };
        let (registry, filling, part) = (&registry, &filling, &part);
        scope.spawn(move || registry.layer(filling, part, &|| false, &tell)).join().unwrap().unwrap_err()
    });
    let said = error.to_string();
    assert!(said.contains("can't be reached") && said.contains("tried 5 times"), "{said}");
    let path = store.images.root().join("downloads").join(part.digest.hex()).with_extension("part");
    assert_eq!(fs::metadata(path).unwrap().len(), SIZE as u64 / 2);
}

#[test]
fn what_is_no_manifest_is_told() {
    let json = |kind: &str, body: &str| Reply::new(200, body).with("Content-Type", kind);
    for (reply, expected) in [
        (json("text/html; charset=utf-8", "<html>"), "is no answer of a registry: it is a page for people"),
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
    let open = |digest: &Digest| {
        impatient(&format!("{}/x/y@{digest}", server.host), &anybody(), QUICK)
    };
    assert_eq!(open(&digest).top().unwrap().0, good.manifest);
    let other = Digest::of(b"other");
    let said = open(&other).top().unwrap_err().to_string();
    assert!(said.contains(other.as_str()) && said.contains(digest.as_str()), "{said}");
}

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
    let server = guarded(2 + 2 * LAYERS, move |request| {
        let digest = request.path.split("/blobs/").nth(1)?;
        let place = format!("http://{there}/blobs/{digest}");
        Some(Reply::new(307, "").with("Location", place))
    });
    let pulled = pull_from(&server).unwrap();
    assert_eq!(pulled.manifest, Digest::of(&good.manifest));
    let asked = elsewhere.asked("");
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
    assert_eq!(ranges.len(), LAYERS);
    assert_eq!(server.asked("/token").len(), 1);
}

#[test]
fn who_leads_on_and_on_is_not_followed() {
    let (_, server) = registry(|request, number| {
        Some(Reply::new(302, "").with("Location", format!("{}?{number}", request.path)))
    });
    let said = pull_from(&server).unwrap_err().to_string();
    assert!(said.contains("it leads on and on"), "{said}");
}

/// A registry that gives whoever asks a token, which is good for so many answers.
fn guarded(
    answers: usize,
    play_up: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    let good = Good::new();
    let given = AtomicUsize::new(0);
    let used = AtomicUsize::new(0);
    Server::new(move |request| {
        let host = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::Relaxed) + 1;
            used.store(0, Ordering::Relaxed);
            return Reply::new(200, json!({"token": format!("token-{number}")}).to_string());
        }
        let expected = format!("Bearer token-{}", given.load(Ordering::Relaxed));
        if request.header("authorization") == Some(&expected) && used.fetch_add(1, Ordering::Relaxed) < answers {
            return play_up(request).unwrap_or_else(|| good.answer(request));
        }
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="the service",scope="repository:x/y:pull""#
        );
        Reply::new(401, "{}").with("WWW-Authenticate", challenge)
    })
}

#[test]
fn one_token_does_for_all_that_are_fetched_at_once() {
    let server = guarded(2 + LAYERS, |_| None);
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
fn who_gives_no_token_is_told_of() {
    for (reply, expected) in [
        (Reply::new(401, r#"{"details":"who are you"}"#), "there are no credentials for it"),
        (Reply::new(403, "{}"), "does not hand out image x/y:1"),
        (Reply::new(200, "{}"), "there is no token in what gives tokens"),
        (Reply::new(200, r#"{"token":"a\nb"}"#), "does not hand out image x/y:1"),
        (Reply { is_endless: true, ..Reply::new(200, vec![b' '; 65536]) }, "more than 262144 bytes"),
        (Reply::new(500, "{}"), "answers with 500; it was tried 5 times"),
    ] {
        let server = Server::new(move |request| match request.path.starts_with("/token") {
            true => reply.clone(),
            false => {
                let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
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
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
            Reply::new(401, "{}").with("WWW-Authenticate", realm)
        }
    });
    let said = from(&server).top().unwrap_err().to_string();
    assert!(said.contains("is not enough") && !said.contains("hunter2"), "{said}");
    let server = Server::new(|_| Reply::new(401, "{}"));
    let said = from(&server).top().unwrap_err().to_string();
    assert!(said.contains("there are no credentials"), "{said}");
}

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
    let expected = format!("{} has no image x/y:1; then {} can't be reached", empty.host, server.host);
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
    assert!(said.contains("registry.invalid can't be reached: its name can't be looked up"), "{said}");
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
