//! Registries that prove who they are, and others.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{Reply, Server};
use super::*;

/// A folder with certificates: of `ca`, of `stranger`, and of a registry whom `ca` knows. Nothing without
/// the program that makes them.
fn certificates() -> Option<Store> {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: there is no openssl to make certificates with");
        return None;
    }
    let store = Store::new();
    fs::create_dir_all(&store.folder).unwrap();
    fs::write(store.folder.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    for words in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout x.key -out stranger.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=registry -keyout registry.key -out registry.csr",
        "x509 -req -days 2 -in registry.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names \
         -out registry.pem",
    ] {
        let made =
            Command::new("openssl").args(words.split(' ')).current_dir(&store.folder).output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    Some(store)
}

fn secured(folder: &Path, answer: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    let own = CertificateDer::from_pem_file(folder.join("registry.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("registry.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own], key)
        .unwrap();
    Server::with_tls(config, move |_| answer())
}

fn top(server: &Server, ca: Option<PathBuf>) -> Result<(Vec<u8>, Option<String>), RegistryError> {
    let mut settings = Registries::default();
    settings.0.entry(server.host.clone()).or_default().ca = ca;
    open(&format!("{}/x", server.host), &settings).top()
}

#[test]
fn who_answers_has_to_be_known_unless_anybody_will_do() {
    let Some(store) = certificates() else { return };
    let file = |name: &str| Some(store.folder.join(name));
    let server = secured(&store.folder, || Reply::new(200, "{}"));
    top(&server, file("ca.pem")).unwrap();
    // On loopback, nobody has to.
    top(&server, None).unwrap();
    assert_eq!(server.asked("/manifests/").len(), 2);

    let error = top(&server, file("stranger.pem")).unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with(&format!("{} does not prove who it is: ", server.host)), "{said}");
    assert!(error.hint().contains("`ca`") && error.hint().contains("`insecure = true`"));
    assert_eq!(server.asked("/manifests/").len(), 2);
}

#[test]
fn who_has_to_be_known_has_to_speak_tls() {
    let Some(store) = certificates() else { return };
    let server = Server::new(|_| Reply::new(200, "{}"));
    let mut settings = Registries::default();
    settings.0.entry(server.host.clone()).or_default().ca = Some(store.folder.join("ca.pem"));
    let once = Patience { tries: 1, ..Patience::default() };
    let error = impatient(&format!("{}/x", server.host), &settings, once).top().unwrap_err();
    assert!(error.to_string().contains("can't be reached"), "{error}");
    assert!(server.asked("").is_empty());
}

#[test]
fn a_file_without_certificates_is_refused_before_anybody_is_asked() {
    let Some(store) = certificates() else { return };
    let mut settings = Registries::default();
    for name in ["names", "gone.pem"] {
        settings.0.entry("a.example".into()).or_default().ca = Some(store.folder.join(name));
        let reference = Reference::parse("a.example/x").unwrap();
        let Err(error) = Registry::open(&reference, &settings) else { panic!("{name} was taken") };
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn nobody_is_led_away_from_tls() {
    let Some(store) = certificates() else { return };
    let plain = Server::new(|_| Reply::new(200, "{}"));
    let there = format!("http://{}/", plain.host);
    let server = secured(&store.folder, move || Reply::new(302, "").with("Location", &there));
    let error = top(&server, Some(store.folder.join("ca.pem"))).unwrap_err();
    assert!(error.to_string().contains("it leads to a place without TLS"), "{error}");
    let realm = format!("Bearer realm=\"http://{}/token\"", plain.host);
    let server =
        secured(&store.folder, move || Reply::new(401, "").with("WWW-Authenticate", &realm));
    let error = top(&server, Some(store.folder.join("ca.pem"))).unwrap_err();
    assert!(error.to_string().contains("for a token to a place without TLS"), "{error}");
    assert!(plain.asked("").is_empty());
}
