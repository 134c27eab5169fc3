//! Engines that prove who they are, and others. What stands for one answers to anybody whom it knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::*;

const VERSION: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// A folder with certificates: an engine's, ours and a stranger's.
struct Folder(PathBuf);

impl Folder {
    /// Nothing without the program that makes them.
    fn new(name: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("skipped: there is no openssl to make certificates with");
            return None;
        }
        let path = std::env::temp_dir().join(format!("tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.authority("ca");
        folder.authority("stranger");
        for name in ["engine", "cert"] {
            folder.openssl(&format!(
                "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"
            ));
            fs::write(folder.0.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
            folder.openssl(&format!(
                "x509 -req -days 2 -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial \
                 -extfile names -out {name}.pem"
            ));
        }
        fs::rename(folder.0.join("cert-key.pem"), folder.0.join("key.pem")).unwrap();
        Some(folder)
    }

    fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}-key.pem \
             -out {name}.pem"
        ));
    }

    fn openssl(&self, words: &str) {
        let made = Command::new("openssl").args(words.split(' ')).current_dir(&self.0).output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn certificates(&self) -> Certificates {
        Certificates::in_folder(self.0.clone())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let read = |name: &str| CertificateDer::pem_file_iter(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(read("ca.pem").next().unwrap().unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let known = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(known.build().unwrap())
        .with_single_cert(
            read("engine.pem").map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(folder.join("engine-key.pem")).unwrap(),
        );
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// What an engine that listens at 127.0.0.1 says to somebody who takes it for `host`, and has these
/// certificates.
fn ask(folder: &Folder, host: &str, certificates: Option<Certificates>) -> Result<String, String> {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = acceptor(&folder.0);
        let engine = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        });
        let far = Far::Tcp { host: host.into(), port, certificates };
        let docker = docker(&far, 10, &VERSION).map_err(|error| error.to_string())?;
        let said = docker.ping().await.map_err(|error| {
            let mut words = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                words += &format!(": {error}");
                source = error.source();
            }
            words
        });
        drop(docker);
        let _ = engine.await;
        said
    })
}

#[test]
fn only_who_proves_it_is_the_engine() {
    let Some(folder) = Folder::new("proof") else { return };
    let own = folder.certificates();
    assert_eq!(ask(&folder, "127.0.0.1", Some(own.clone())).as_deref(), Ok("OK"));
    let refused = |host: &str, certificates: Option<Certificates>| {
        ask(&folder, host, certificates).expect_err("it was believed")
    };
    let stranger = Certificates { ca: folder.0.join("stranger.pem"), ..own.clone() };
    let why = refused("127.0.0.1", Some(stranger));
    assert!(why.contains("UnknownIssuer"), "{why}");
    let why = refused("localhost", Some(own.clone()));
    assert!(why.contains("not valid for name"), "{why}");
    let nobody = folder.0.join("none.pem");
    let unknown = Certificates { own: nobody.clone(), key: nobody.clone(), ..own.clone() };
    let why = refused("127.0.0.1", Some(unknown));
    assert!(why.contains("CertificateRequired"), "{why}");
    let why = refused("127.0.0.1", Some(Certificates { ca: nobody, ..own.clone() }));
    assert!(why.contains("none.pem"), "{why}");
    let swapped = Certificates { ca: own.key.clone(), ..own.clone() };
    refused("127.0.0.1", Some(swapped));
    refused("127.0.0.1", None);
}

#[test]
fn a_program_that_carries_nothing_is_an_error() {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let far = Far::Ssh {
            destination: "nobody@invalid.invalid".into(),
            port: None,
            command: vec!["true".into()],
        };
        let docker = docker(&far, 10, &VERSION).unwrap();
        assert!(docker.ping().await.is_err());
    });
}
