//! Who the caller is to a registry, by the files that `docker login` and `podman login` write and
//! the programs that these name. Those are executed directly, without a shell.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use serde_json::Value;

use crate::error::Known;

/// Looks a variable of the environment up.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What Docker calls its default registry in those files, and what Podman does.
const DEFAULT: [&str; 2] = ["https://index.docker.io/v1/", "docker.io"];

/// What proves who the caller is. It is never shown.
pub enum Secret {
    Password {
        user: String,
        password: String,
    },
    /// To be exchanged for one that opens something.
    Identity(String),
}

/// What came of a search.
pub struct Credentials {
    pub secret: Option<Secret>,
    pub known: Known,
}

/// Looks for credentials: those of a repository or a folder of them, as Podman has it, or those of
/// its registry.
pub fn find(registry: &str, repository: &str, variables: Variables<'_>) -> Credentials {
    let files = files(variables);
    let mut notes = Vec::new();
    for file in &files {
        match in_file(file, registry, repository) {
            Ok(Some(secret)) => {
                return Credentials { secret: Some(secret), known: Known::By(file.clone()) };
            }
            Ok(None) => {}
            Err(why) => notes.push(format!("{}: {why}", file.display())),
        }
    }
    Credentials { secret: None, known: Known::Unknown { files, notes } }
}

/// The files that may have them, the more important first.
fn files(variables: Variables<'_>) -> Vec<PathBuf> {
    let path = |name: &str| variables(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let podmans = path("REGISTRY_AUTH_FILE")
        .or_else(|| Some(path("XDG_RUNTIME_DIR")?.join("containers/auth.json")));
    let dockers = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
    podmans.into_iter().chain(dockers.map(|folder| folder.join("config.json"))).collect()
}

fn in_file(file: &Path, registry: &str, repository: &str) -> Result<Option<Secret>, String> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // What stands in it may be secret, so nothing of it is told.
    let content: Value = serde_json::from_slice(&text).map_err(|_| "it is not JSON")?;
    for name in names(registry, repository, &content["auths"]) {
        if let Some(secret) = of_name(&text, &name)? {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}

/// What credentials may be called that are good for a repository, the narrowest first.
fn names(registry: &str, repository: &str, written: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        names.push(format!("{registry}/{path}"));
        path = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    }
    // A helper is asked for a registry only, and not for all that might have been written.
    names.retain(|name| written.get(name).is_some());
    match registry {
        "docker.io" | "index.docker.io" => names.extend(DEFAULT.map(String::from)),
        _ => names.push(registry.into()),
    }
    names
}

fn of_name(text: &[u8], name: &str) -> Result<Option<Secret>, String> {
    use CredentialRetrievalError as Why;

    match get_credential_from_reader(text, name) {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Secret::Identity(token))),
        // So `docker logout` may leave it.
        Ok(DockerCredential::UsernamePassword(user, _)) if user.is_empty() => Ok(None),
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Secret::Password { user, password }))
        }
        Err(Why::NoCredentialConfigured) => Ok(None),
        // That is how such a program says that it has none.
        Err(Why::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        // What it has said may be secret.
        Err(Why::HelperFailure { helper, .. }) => Err(format!("{helper} has failed")),
        Err(Why::HelperCommunicationError) => Err("its credential helper can't be executed".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("agentkernel-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn user(secret: Option<Secret>) -> String {
        match secret {
            Some(Secret::Password { user, password }) => format!("{user}/{password}"),
            Some(Secret::Identity(token)) => format!("token {token}"),
            None => "nobody".into(),
        }
    }

    #[test]
    fn credentials_are_those_of_the_narrowest_name() {
        let folder = Folder::new("names");
        // a:b, c:d
        let file = folder.write(
            "auth.json",
            r#"{"auths":{"a.example":{"auth":"YTpi"},"a.example/x/y":{"auth":"Yzpk"},
                "https://index.docker.io/v1/":{"identitytoken":"t"},
                "https://old.example/v1/":{"auth":"YTpi"}, "empty.example":{}}}"#,
        );
        for (registry, repository, expected) in [
            ("a.example", "x/z", "a/b"),
            ("a.example", "x/y", "c/d"),
            ("a.example", "x/y/z", "c/d"),
            ("a.example", "x/yz", "a/b"),
            ("docker.io", "library/debian", "token t"),
            ("old.example", "x", "a/b"),
            ("b.example", "x/y", "nobody"),
            ("empty.example", "x", "nobody"),
        ] {
            let found = in_file(&file, registry, repository).unwrap();
            assert_eq!(user(found), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn files_are_looked_at_in_their_order_and_named_where_there_is_nothing() {
        let folder = Folder::new("files");
        let (home, runtime) = (folder.0.join("home"), folder.0.join("run"));
        let variables = |name: &str| match name {
            "HOME" => Some(home.clone().into_os_string()),
            "XDG_RUNTIME_DIR" => Some(runtime.clone().into_os_string()),
            _ => None,
        };
        let nothing = find("a.example", "x", &variables);
        let expected = vec![runtime.join("containers/auth.json"), home.join(".docker/config.json")];
        assert_eq!(nothing.known, Known::Unknown { files: expected, notes: Vec::new() });
        folder.write("home/.docker/config.json", r#"{"auths":{"a.example":{"auth":"YTpi"}}}"#);
        assert_eq!(user(find("a.example", "x", &variables).secret), "a/b");
        let first =
            folder.write("run/containers/auth.json", r#"{"auths":{"a.example":{"auth":"Yzpk"}}}"#);
        let found = find("a.example", "x", &variables);
        assert_eq!(found.known, Known::By(first));
        assert_eq!(user(found.secret), "c/d");
    }

    #[test]
    fn what_stands_in_a_damaged_file_is_not_told() {
        let folder = Folder::new("damaged");
        for text in [
            r#"{"auths":{"a.example":{"auth":"hunter2"}}}"#,
            r#"{"auths":{"a.example":{"auth":"YTpi","username":"hunter2","password":"hunter2"}}}"#,
            r#"hunter2"#,
            r#"{"credHelpers":{"a.example":"none-of-this-name-hunter"}}"#,
        ] {
            let file = folder.write("auth.json", text);
            let Err(why) = in_file(&file, "a.example", "x") else { panic!("{text} was taken") };
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
