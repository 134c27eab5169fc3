//! Who the caller is to a registry, by the files that `docker login` and `podman login` write and
//! the programs that these name. Those are executed directly, without a shell.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use agentkernel_containers::Product;
use agentkernel_core::{News, tell};
use bollard::BollardRequest;
use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use crate::host;

/// How the default registry is called in those files: by Docker, and by Podman.
const DEFAULT: [&str; 2] = ["https://index.docker.io/v1/", "docker.io"];

/// The caller's credentials for the registry of an image, if there are any.
pub fn of_image(product: &Product, reference: &str) -> Option<DockerCredentials> {
    let registry = registry(reference);
    let names = match registry {
        Some(name) => vec![name],
        None => DEFAULT.to_vec(),
    };
    files(product).iter().find_map(|file| names.iter().find_map(|name| find(file, name)))
}

/// The same for several images, by their registries.
pub fn of_images<'a>(
    product: &Product,
    references: impl Iterator<Item = &'a str>,
) -> HashMap<String, DockerCredentials> {
    let mut all = HashMap::new();
    for reference in references {
        let name = registry(reference).unwrap_or(DEFAULT[0]);
        if !all.contains_key(name)
            && let Some(found) = of_image(product, reference)
        {
            all.insert(name.to_owned(), found);
        }
    }
    all
}

/// The registry that a reference names; none is the default one.
fn registry(reference: &str) -> Option<&str> {
    let (first, _) = reference.split_once('/')?;
    let is_host = first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_host && !matches!(first, "docker.io" | "index.docker.io")).then_some(first)
}

/// The files that may have them, the more important first.
fn files(product: &Product) -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let path = |name: &str| variable(name).map(PathBuf::from);
    let podmans = match (product.service, path("REGISTRY_AUTH_FILE")) {
        (None, _) => None,
        (Some(_), Some(named)) => Some(named),
        (Some(_), None) => {
            Some(path("XDG_RUNTIME_DIR").unwrap_or("/run".into()).join("containers/auth.json"))
        }
    };
    let dockers = host::docker_config(&variable).map(|folder| folder.join("config.json"));
    podmans.into_iter().chain(dockers).collect()
}

fn find(file: &PathBuf, registry: &str) -> Option<DockerCredentials> {
    use CredentialRetrievalError as Why;

    let reader = BufReader::new(File::open(file).ok()?);
    let serveraddress = Some(registry.to_owned());
    let blank = DockerCredentials { serveraddress, ..DockerCredentials::default() };
    let why = match get_credential_from_reader(reader, registry) {
        Ok(DockerCredential::IdentityToken(token)) => {
            return Some(DockerCredentials { identitytoken: Some(token), ..blank });
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            let (username, password) = (Some(username), Some(password));
            return Some(DockerCredentials { username, password, ..blank });
        }
        Err(Why::NoCredentialConfigured) => return None,
        // That is how such a program says that it has none.
        Err(Why::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            return None;
        }
        // What it has said may be secret.
        Err(Why::HelperFailure { helper, .. }) => format!("{helper} has failed"),
        Err(Why::HelperCommunicationError) => "its credential helper can't be executed".into(),
        Err(error) => error.to_string(),
    };
    let file = file.display();
    tell(News::Note { text: &format!("{file} gives no credentials for {registry}: {why}") });
    None
}

/// Engines expect credentials in base64's alphabet for URLs, and take what is in the other one,
/// which is the client's, for none at all.
pub fn in_their_alphabet(mut request: BollardRequest) -> BollardRequest {
    for name in ["X-Registry-Auth", "X-Registry-Config"] {
        if let Some(value) = request.headers_mut().get_mut(name)
            && let Ok(text) = value.to_str()
            && let Ok(theirs) = text.replace('+', "-").replace('/', "_").try_into()
        {
            *value = theirs;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_registry_is_what_stands_before_the_first_slash_if_it_is_a_host() {
        for (reference, expected) in [
            ("python:3", None),
            ("docker.io/library/python", None),
            ("owner/image:1", None),
            ("ghcr.io/owner/image", Some("ghcr.io")),
            ("localhost:5000/x:1", Some("localhost:5000")),
            ("localhost/x", Some("localhost")),
        ] {
            assert_eq!(registry(reference), expected, "{reference}");
        }
    }

    #[test]
    fn credentials_are_found_in_the_file_that_has_them() {
        let folder =
            std::env::temp_dir().join(format!("agentkernel-credentials-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.json");
        // user:pass
        let auths = r#"{"auths":{"a.example":{"auth":"dXNlcjpwYXNz"},
            "https://index.docker.io/v1/":{"identitytoken":"t"}},
            "credHelpers":{"c.example":"none-of-this-name"}}"#;
        fs::write(&file, auths).unwrap();
        let found = find(&file, "a.example").unwrap();
        assert_eq!(found.username.as_deref(), Some("user"));
        assert_eq!(found.password.as_deref(), Some("pass"));
        assert_eq!(find(&file, DEFAULT[0]).unwrap().identitytoken.as_deref(), Some("t"));
        assert!(find(&file, "c.example").is_none());
        assert!(find(&file, "d.example").is_none());
        assert!(find(&folder.join("gone"), "a.example").is_none());
        fs::write(&file, "{").unwrap();
        assert!(find(&file, "a.example").is_none());
        fs::remove_dir_all(folder).unwrap();
    }
}
