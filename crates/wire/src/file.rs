//! A settings file: `agentkernel.toml` in a project, `config.toml` of a user.

use std::ops::Range;

use crate::{SpecRequest, nearest};

/// The keys of a settings file, as [`SpecRequest`] reads them.
pub const KEYS: [&str; 22] = [
    "backend",
    "image",
    "build",
    "pull",
    "profile",
    "network",
    "ports",
    "cpus",
    "memory",
    "pids",
    "disk",
    "project",
    "volumes",
    "env",
    "directory",
    "user",
    "timeout",
    "strict",
    "pools",
    "registries",
    "kubernetes",
    "nomad",
];

/// What is wrong with a settings file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct FileError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    pub message: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

/// Reads the text of a settings file.
pub fn read_file(text: &[u8]) -> Result<SpecRequest, FileError> {
    let text = text_of(text)?;
    toml::from_str(text).map_err(|err| explain(text, &err))
}

pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, FileError> {
    str::from_utf8(bytes).map_err(|err| {
        // The part before the error is UTF-8, so nothing of it is lost.
        let before = String::from_utf8_lossy(&bytes[..err.valid_up_to()]);
        let (line, column) = position(&before);
        FileError { line, column, message: "not UTF-8".into(), hint: None }
    })
}

pub(crate) fn explain(text: &str, err: &toml::de::Error) -> FileError {
    let span = err.span().unwrap_or_default();
    let (line, column) = position(text.get(..span.start).unwrap_or(text));
    match unknown_key(text, span, err.message()) {
        Some(key) => {
            let keys = known_keys(err.message());
            let hint = nearest(key, keys.iter().copied());
            let hint = hint.map(|name| format!("did you mean `{name}`?"));
            let message = format!("unknown key `{key}`");
            let hint = hint.or_else(|| Some(format!("the keys are {}", keys.join(", "))));
            FileError { line, column, message, hint }
        }
        None => FileError { line, column, message: err.message().into(), hint: None },
    }
}

/// The key that serde did not know. Serde's error is a text, so it is known by how it begins.
fn unknown_key<'a>(text: &'a str, span: Range<usize>, message: &str) -> Option<&'a str> {
    let key = text.get(span).filter(|_| message.starts_with("unknown field"))?;
    Some(key.trim_matches(['"', '\'']))
}

/// The keys that there are where serde did not know one: those of the file, or of one of its tables.
fn known_keys(message: &str) -> Vec<&str> {
    // Each is quoted, and so is, before them, the one that it did not know.
    message.split('`').skip(3).step_by(2).collect()
}

/// The line and the column that follow `before`.
fn position(before: &str) -> (usize, usize) {
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agentkernel_core::{Access, Bytes, Cpus, Network, Profile, Pull, RegistrySettings, User};

    use super::*;
    use crate::{BuildRequest, ImageRequest, ProjectRequest, Volume};

    fn err(text: &str) -> FileError {
        read_file(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_file_holds_a_spec() {
        let text = r#"
            backend = "native"
            image = "rootfs:./rootfs"
            build = true
            pull = "always"
            profile = "permissive"
            network = "full"
            ports = [80, "8080:81/udp"]
            cpus = 1.5
            memory = "512m"
            pids = 64
            disk = 1048576
            project = ".:rw"
            volumes = ["./data:/data", "cache:/cache:cow"]
            env = { A = "text", B = 1, C = true }
            directory = "/data"
            user = 1000
            timeout = 30
            strict = true

            [pools.quick]
            size = 4
            max_age = "10m"
            spec = { memory = "64m" }

            [registries."localhost:5000"]
            insecure = true
            mirrors = ["mirror.example:5000/hub", "a.example"]
            ca = "./ca.pem"

            [registries."docker.io"]
        "#;
        let request = read_file(text.as_bytes()).unwrap();
        assert_eq!(request.backend.as_deref(), Some("native"));
        assert_eq!(request.image, Some(ImageRequest::Rootfs("./rootfs".into())));
        assert_eq!(request.build, Some(BuildRequest::On(None)));
        assert_eq!(request.pull, Some(Pull::Always));
        assert_eq!(request.profile, Some(Profile::Permissive));
        assert_eq!(request.network, Some(Network::Full));
        assert_eq!(request.ports.len(), 2);
        assert_eq!(request.cpus.map(Cpus::millis), Some(1500));
        assert_eq!(request.memory, Some(Bytes::mib(512)));
        assert_eq!(request.pids.map(|pids| pids.get()), Some(64));
        assert_eq!(request.disk, Some(Bytes::mib(1)));
        let project =
            ProjectRequest::On { directory: Some(".".into()), access: Some(Access::ReadWrite) };
        assert_eq!(request.project, Some(project));
        let targets: Vec<_> = request.volumes.iter().map(|v: &Volume| v.target.clone()).collect();
        assert_eq!(targets, ["/data", "/cache"].map(std::path::PathBuf::from));
        let values: Vec<_> = request.env.values().flatten().collect();
        assert_eq!(values, ["text", "1", "true"]);
        assert_eq!(request.directory, Some("/data".into()));
        assert_eq!(request.user, Some(User::Ids { uid: 1000, gid: 1000 }));
        assert_eq!(request.timeout, Some(Duration::from_secs(30)));
        assert_eq!(request.strict, Some(true));
        let pool = &request.pools["quick"];
        assert_eq!((pool.size.get(), pool.max_age), (4, Some(Duration::from_secs(600))));
        assert_eq!(pool.spec.memory, Some(Bytes::mib(64)));
        let registries = request.registries();
        let registry = registries.of("localhost:5000");
        assert!(registry.insecure);
        assert_eq!(registry.mirrors, ["mirror.example:5000/hub", "a.example"]);
        assert_eq!(registry.ca, Some("./ca.pem".into()));
        assert_eq!(registries.of("docker.io"), RegistrySettings::default());
    }

    #[test]
    fn an_unknown_key_is_shown_with_the_nearest() {
        let err = err("cpus = 1\n  memroy = \"1g\"\n");
        assert_eq!((err.line, err.column), (2, 3));
        assert_eq!(err.message, "unknown key `memroy`");
        assert_eq!(err.hint.as_deref(), Some("did you mean `memory`?"));
    }

    #[test]
    fn an_unknown_key_of_a_table_is_shown_with_the_nearest_there() {
        for (text, key, nearest) in [
            ("[registries.\"a.example\"]\ninsecre = true", "insecre", "insecure"),
            ("[pools.a]\nsizes = 1", "sizes", "size"),
        ] {
            let err = err(text);
            assert_eq!((err.line, err.column), (2, 1));
            assert_eq!(err.message, format!("unknown key `{key}`"));
            assert_eq!(err.hint, Some(format!("did you mean `{nearest}`?")));
        }
        let hint = err("[registries.\"a.example\"]\nbanana = 1").hint;
        assert_eq!(hint.as_deref(), Some("the keys are insecure, mirrors, ca"));
    }

    #[test]
    fn a_key_like_no_other_is_answered_with_all_of_them() {
        for text in ["banana = 1", "[banana]\nx = 1", "\"banana\" = 1"] {
            let err = err(text);
            assert_eq!(err.message, "unknown key `banana`", "{text}");
            assert!(err.hint.unwrap().contains("memory, pids"), "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_shown_where_it_stands() {
        for (text, at, part) in [
            ("cpus = 1\nmemory = \"512x\"", (2, 10), "512m"),
            ("memory = []", (1, 10), "a size such as 512m"),
            ("# \u{e9}\npids = 0", (2, 8), "from 1 to 4194304"),
            ("volumes = [\"a:/b\",\n  \"c\"]", (2, 3), "SRC:DST"),
            ("ports = [80, 0]", (1, 14), "from 1 to 65535"),
            ("ports = \"80\"", (1, 9), "a sequence"),
            ("env = { A = [1] }", (1, 13), "a text"),
            ("cpus = inf", (1, 8), "0.01"),
            ("cpus = \n", (1, 8), ""),
            ("strict = \"ture\"", (1, 10), "did you mean \"true\"?"),
            ("pull = \"allways\"", (1, 8), "did you mean \"always\"?"),
            ("image = \"./rootfs\"", (1, 9), "write rootfs:DIR"),
            ("image = \"Python\"", (1, 9), "python:3.13-slim: \"Python\" is not in lower case"),
            ("build = []", (1, 9), "a folder with a Dockerfile"),
            ("[pools.a]\nsize = 65", (2, 8), "1 to 64"),
            ("[registries.\"https://a.example\"]", (1, 13), "not the name of a registry"),
            ("[registries.\"a.example/x\"]", (1, 13), "a registry has no folder"),
            ("[registries.\"a.example\"]\nmirrors = [\"b\"]", (2, 11), "HOST:PORT/FOLDER"),
            ("[registries.\"a.example\"]\nmirrors = \"b.example\"", (2, 11), "a sequence"),
            ("[registries.\"a.example\"]\ninsecure = 1", (2, 12), "a boolean"),
        ] {
            let err = err(text);
            assert_eq!((err.line, err.column), at, "{text}: {err}");
            assert!(err.message.contains(part), "{text}: {err}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_where_they_stand() {
        let err = read_file(b"cpus = 1\nimage = \"\xff\"").unwrap_err();
        assert_eq!((err.line, err.column), (2, 10));
    }

    #[test]
    fn the_list_of_keys_is_the_one_that_is_read() {
        let serde = toml::from_str::<SpecRequest>("banana = 1").unwrap_err();
        assert_eq!(known_keys(serde.message()), KEYS);
    }
}
