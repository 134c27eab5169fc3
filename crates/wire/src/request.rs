//! Everything of a spec in its user's words, all of it optional.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_core::{Access, Bytes, Cpus, Network, Profile, Pull, Registries, User};
use serde::Deserialize;

use crate::environment::{self, Environment};
use crate::value::{self, Pids};
use crate::{
    BuildRequest, EngineTable, ImageRequest, ProjectRequest, Publish, RegistryName,
    RegistryRequest, Volume,
};

/// A spec as asked for by flags, by variables, by a project's file or by a user's. Each of them
/// fills one, and [`over`](Self::over) lays one over the next.
///
/// Deserialising takes the keys of a settings file; what is not one of them is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpecRequest {
    #[serde(deserialize_with = "value::optional")]
    pub backend: Option<String>,
    #[serde(deserialize_with = "value::optional")]
    pub image: Option<ImageRequest>,
    #[serde(deserialize_with = "value::optional")]
    pub build: Option<BuildRequest>,
    #[serde(deserialize_with = "value::optional")]
    pub pull: Option<Pull>,
    #[serde(deserialize_with = "value::optional")]
    pub profile: Option<Profile>,
    #[serde(deserialize_with = "value::optional")]
    pub network: Option<Network>,
    pub ports: Vec<Publish>,
    #[serde(deserialize_with = "value::optional")]
    pub cpus: Option<Cpus>,
    #[serde(deserialize_with = "value::optional")]
    pub memory: Option<Bytes>,
    #[serde(deserialize_with = "value::optional")]
    pub pids: Option<Pids>,
    #[serde(deserialize_with = "value::optional")]
    pub disk: Option<Bytes>,
    #[serde(deserialize_with = "value::optional")]
    pub project: Option<ProjectRequest>,
    pub volumes: Vec<Volume>,
    #[serde(deserialize_with = "environment::table")]
    pub env: Environment,
    /// Where commands start, in the sandbox.
    #[serde(deserialize_with = "value::optional")]
    pub directory: Option<PathBuf>,
    #[serde(deserialize_with = "value::optional")]
    pub user: Option<User>,
    /// How long a command may run.
    #[serde(deserialize_with = "value::optional")]
    pub timeout: Option<Duration>,
    #[serde(deserialize_with = "value::optional")]
    pub strict: Option<bool>,
    /// Pools that are to be held for runs like this, by name.
    pub pools: BTreeMap<String, PoolRequest>,
    /// How registries are to be asked, by their names.
    pub registries: BTreeMap<RegistryName, RegistryRequest>,
    /// Where engines are, which whoever asks them [reads](crate::read_engine).
    pub kubernetes: EngineTable,
    pub nomad: EngineTable,
}

/// A pool, as a settings file has it: `[pools.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolRequest {
    pub size: PoolSize,
    #[serde(default, deserialize_with = "value::optional")]
    pub max_age: Option<Duration>,
    /// What its sandboxes are made of, laid over what the file says besides.
    #[serde(default)]
    pub spec: Box<SpecRequest>,
}

/// How many sandboxes a settings file may have held ready: few, for it need not be the user's own
/// work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct PoolSize(u32);

impl PoolSize {
    const MOST: u32 = 64;

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for PoolSize {
    type Error = String;

    fn try_from(size: u32) -> Result<Self, String> {
        match size {
            1..=Self::MOST => Ok(Self(size)),
            _ => Err(format!("a pool in a file has 1 to {} sandboxes, not {size}", Self::MOST)),
        }
    }
}

impl SpecRequest {
    /// This request laid over `lower`: what it says wins. Volumes, ports and variables of both are
    /// kept, except that a target, a port of the sandbox's or a name of this one replaces the lower's. An image and a build are two
    /// answers to one question, so either replaces the other.
    pub fn over(self, lower: Self) -> Self {
        let mut env = lower.env;
        env.extend(self.env);
        let covered = |volume: &Volume| self.volumes.iter().any(|v| v.target == volume.target);
        let mut volumes = lower.volumes;
        volumes.retain(|volume| !covered(volume));
        volumes.extend(self.volumes);
        let mut ports = lower.ports;
        ports.retain(|port| !self.ports.iter().any(|own| own.is_about(port)));
        ports.extend(self.ports);
        let mut pools = lower.pools;
        pools.extend(self.pools);
        let mut registries = lower.registries;
        registries.extend(self.registries);
        let (image, build) = match (self.image, self.build) {
            (None, None) => (lower.image, lower.build),
            (None, Some(BuildRequest::Off)) => (lower.image, Some(BuildRequest::Off)),
            own => own,
        };
        Self {
            backend: self.backend.or(lower.backend),
            image,
            build,
            pull: self.pull.or(lower.pull),
            profile: self.profile.or(lower.profile),
            network: self.network.or(lower.network),
            ports,
            cpus: self.cpus.or(lower.cpus),
            memory: self.memory.or(lower.memory),
            pids: self.pids.or(lower.pids),
            disk: self.disk.or(lower.disk),
            project: self.project.or(lower.project),
            volumes,
            env,
            directory: self.directory.or(lower.directory),
            user: self.user.or(lower.user),
            timeout: self.timeout.or(lower.timeout),
            strict: self.strict.or(lower.strict),
            pools,
            registries,
            kubernetes: self.kubernetes.or(lower.kubernetes),
            nomad: self.nomad.or(lower.nomad),
        }
    }

    /// How registries are to be asked.
    pub fn registries(&self) -> Registries {
        let all = self.registries.iter();
        Registries(all.map(|(name, said)| (name.as_str().into(), said.clone().into())).collect())
    }

    /// Makes the host's paths absolute that are relative to `directory`: the current one for
    /// flags and variables, and a file's own for what the file says. A project without a
    /// directory is `project`.
    pub fn anchor(&mut self, directory: &Path, project: &Path) {
        let anchor = |path: &mut PathBuf| {
            if path.is_relative() {
                *path = directory.join(&path);
            }
        };
        self.volumes.iter_mut().for_each(|volume| anchor(&mut volume.source));
        if let Some(ImageRequest::Rootfs(path) | ImageRequest::Module(path)) = &mut self.image {
            anchor(path);
        }
        if let Some(BuildRequest::On(Some(path))) = &mut self.build {
            anchor(path);
        }
        if let Some(ProjectRequest::On { directory, .. }) = &mut self.project {
            anchor(directory.get_or_insert_with(|| project.to_owned()));
        }
        self.registries.values_mut().filter_map(|said| said.ca.as_mut()).for_each(anchor);
        for pool in self.pools.values_mut() {
            pool.spec.anchor(directory, project);
        }
    }

    /// Has a build without a folder be one of the project, if this request has one, or else of
    /// `folder`. It must be anchored.
    pub fn anchor_build(&mut self, folder: &Path) {
        let folder = match &self.project {
            Some(ProjectRequest::On { directory: Some(project), .. }) => project.clone(),
            _ => folder.to_owned(),
        };
        for pool in self.pools.values_mut() {
            pool.spec.anchor_build(&folder);
        }
        if let Some(BuildRequest::On(of)) = &mut self.build {
            of.get_or_insert(folder);
        }
    }
}

impl SpecRequest {
    /// The first key by which this anchored request would open more to a sandbox than a project in
    /// `folder` has to give: whoever can change a project's file must not gain by it what the
    /// caller has elsewhere.
    pub fn widens_beyond(&self, folder: &Path) -> Option<&'static str> {
        let outside = |path: &Path| path.canonicalize().is_ok_and(|path| !path.starts_with(folder));
        let image = match &self.image {
            Some(ImageRequest::Rootfs(path) | ImageRequest::Module(path)) => outside(path),
            // An image by its name is others' code, which is fetched and then run behind the same
            // walls as the project's own. It gives nothing of the caller's to anybody.
            Some(ImageRequest::Host | ImageRequest::Auto | ImageRequest::Reference(_)) | None => {
                false
            }
        };
        // The steps of a Dockerfile run in the engine: with a network, before any profile or limit of
        // the caller's, and as root if the engine is root's.
        let build = matches!(self.build, Some(BuildRequest::On(_)));
        let project = match &self.project {
            Some(ProjectRequest::On { directory, access }) => {
                *access == Some(Access::ReadWrite) || directory.as_deref().is_some_and(outside)
            }
            Some(ProjectRequest::Off) | None => false,
        };
        let volume =
            |volume: &Volume| volume.access == Access::ReadWrite || outside(&volume.source);
        let copied = |value: &Option<_>| value.is_none();
        [
            ("image", image),
            ("build", build),
            ("profile", self.profile.is_some_and(|profile| profile != Profile::Restrictive)),
            ("network", self.network.as_ref().is_some_and(|network| *network != Network::None)),
            // Whoever has a port of the host's gets what others send there.
            ("ports", !self.ports.is_empty()),
            ("project", project),
            ("volumes", self.volumes.iter().any(volume)),
            ("env", self.env.values().any(copied)),
            ("strict", self.strict == Some(false)),
            ("pools", self.pools.values().any(|pool| pool.spec.widens_beyond(folder).is_some())),
            // Whoever says where an image comes from says what is in it, for all that ask by its name,
            // and which registry gets to know of what the caller has elsewhere.
            ("registries", !self.registries.is_empty()),
        ]
        .into_iter()
        .find_map(|(key, widens)| widens.then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(source: &str, target: &str) -> Volume {
        Volume { source: source.into(), target: target.into(), access: Access::ReadOnly }
    }

    #[test]
    fn a_projects_file_gives_nothing_that_is_not_the_projects() {
        let folder = std::env::temp_dir().canonicalize().unwrap();
        let inside = folder.join(format!("request-{}", std::process::id()));
        std::fs::create_dir(&inside).unwrap();
        let link = inside.join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let module = inside.join("link.wasm");
        std::os::unix::fs::symlink("/etc/passwd", &module).unwrap();
        std::fs::write(inside.join("own.wasm"), "").unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let widens = |text: &str| {
            let request: SpecRequest = toml::from_str(text).unwrap();
            request.widens_beyond(&inside)
        };
        let own = path(&inside);
        for (text, key) in [
            ("network = \"full\"".to_owned(), "network"),
            ("ports = [80]".to_owned(), "ports"),
            ("[pools.x]\nsize = 1\nspec = { ports = [80] }".to_owned(), "pools"),
            ("[registries.\"a.example\"]\ninsecure = true".to_owned(), "registries"),
            ("profile = \"permissive\"".to_owned(), "profile"),
            ("strict = false".to_owned(), "strict"),
            ("image = \"rootfs:/usr\"".to_owned(), "image"),
            (format!("image = \"{}\"", path(&module)), "image"),
            ("image = \"module:/etc/passwd\"".to_owned(), "image"),
            ("build = \"/usr\"".to_owned(), "build"),
            (format!("build = \"{own}\""), "build"),
            ("build = true".to_owned(), "build"),
            ("[pools.x]\nsize = 1\nspec = { build = true }".to_owned(), "pools"),
            (format!("project = \"{own}:rw\""), "project"),
            ("project = \"/etc:ro\"".to_owned(), "project"),
            (format!("volumes = [\"{own}:/x:rw\"]"), "volumes"),
            ("volumes = [\"/etc:/x\"]".to_owned(), "volumes"),
            (format!("volumes = [\"{own}/../..:/x\"]"), "volumes"),
            (format!("volumes = [\"{}:/x\"]", path(&link)), "volumes"),
        ] {
            assert_eq!(widens(&text), Some(key), "{text}");
        }
        for text in [
            "profile = \"restrictive\"\nnetwork = \"none\"\nmemory = \"4g\"\nstrict = true"
                .to_owned(),
            format!("project = \"{own}:cow\"\nvolumes = [\"{own}:/x:ro\"]"),
            "image = \"ghcr.io/x/y:1\"\npull = \"always\"".to_owned(),
            "image = \"auto\"".to_owned(),
            format!("image = \"{own}/own.wasm\""),
            "build = false".to_owned(),
        ] {
            assert_eq!(widens(&text), None, "{text}");
        }
        std::fs::remove_dir_all(&inside).unwrap();
    }

    #[test]
    fn the_upper_request_wins_word_by_word() {
        let upper = SpecRequest {
            memory: Some(Bytes::mib(1)),
            volumes: vec![volume("upper", "/both")],
            env: Environment::from([("BOTH".into(), Some("upper".into()))]),
            ..SpecRequest::default()
        };
        let lower = SpecRequest {
            memory: Some(Bytes::mib(2)),
            timeout: Some(Duration::from_secs(1)),
            volumes: vec![volume("lower", "/both"), volume("lower", "/lower")],
            env: Environment::from([("BOTH".into(), Some("lower".into())), ("LOWER".into(), None)]),
            ..SpecRequest::default()
        };
        let both = upper.over(lower);
        assert_eq!(both.memory, Some(Bytes::mib(1)));
        assert_eq!(both.timeout, Some(Duration::from_secs(1)));
        assert_eq!(both.volumes, [volume("lower", "/lower"), volume("upper", "/both")]);
        let env = [("BOTH".into(), Some("upper".into())), ("LOWER".into(), None)];
        assert_eq!(both.env, Environment::from(env));
    }

    #[test]
    fn an_image_and_a_build_replace_each_other() {
        let read = |text: &str| toml::from_str::<SpecRequest>(text).unwrap();
        for (upper, lower, both) in [
            ("image = \"a\"", "build = \"b\"", "image = \"a\""),
            ("build = \"b\"", "image = \"a\"", "build = \"b\""),
            ("build = true", "build = \"b\"", "build = true"),
            ("build = false", "image = \"a\"", "build = false\nimage = \"a\""),
            ("build = false", "build = \"b\"", "build = false"),
            ("", "build = \"b\"", "build = \"b\""),
            ("pull = \"never\"", "pull = \"always\"", "pull = \"never\""),
        ] {
            assert_eq!(read(upper).over(read(lower)), read(both), "{upper} over {lower}");
        }
    }

    #[test]
    fn a_build_without_a_folder_is_the_projects_or_else_of_where_it_was_written() {
        let folder = |text: &str| {
            let mut request: SpecRequest = toml::from_str(text).unwrap();
            request.anchor(Path::new("/here"), Path::new("/here"));
            request.anchor_build(Path::new("/here"));
            let pool = request.pools.into_values().next().map(|pool| *pool.spec);
            pool.map_or(request.build, |spec| spec.build)
        };
        let on = |path: &str| Some(BuildRequest::On(Some(path.into())));
        assert_eq!(folder("build = true"), on("/here"));
        assert_eq!(folder("build = \"sub\""), on("/here/sub"));
        assert_eq!(folder("build = true\nproject = \"/there\""), on("/there"));
        assert_eq!(folder("build = true\nproject = false"), on("/here"));
        assert_eq!(folder("build = false"), Some(BuildRequest::Off));
        assert_eq!(folder("[pools.x]\nsize = 1\nspec = { build = true }"), on("/here"));
    }

    #[test]
    fn relative_paths_belong_to_where_they_were_written() {
        let mut request = SpecRequest {
            image: Some(ImageRequest::Rootfs("./rootfs".into())),
            project: Some(ProjectRequest::DEFAULT),
            volumes: vec![volume("data", "/data"), volume("/abs", "/abs")],
            ..SpecRequest::default()
        };
        request.anchor(Path::new("/here"), Path::new("/project"));
        assert_eq!(request.image, Some(ImageRequest::Rootfs("/here/./rootfs".into())));
        let project = ProjectRequest::On { directory: Some("/project".into()), access: None };
        assert_eq!(request.project, Some(project));
        assert_eq!(request.volumes, [volume("/here/data", "/data"), volume("/abs", "/abs")]);
        for (module, anchored) in [("app.wasm", "/here/app.wasm"), ("/app.wasm", "/app.wasm")] {
            request.image = Some(ImageRequest::Module(module.into()));
            request.anchor(Path::new("/here"), Path::new("/project"));
            assert_eq!(request.image, Some(ImageRequest::Module(anchored.into())));
        }
    }
}
