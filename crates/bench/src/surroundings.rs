//! What of the caller's surroundings goes into a world: what a container engine is found by, and
//! the image.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use agentkernel_core::{Backend, Capability, Class};
use agentkernel_wire::{DEFAULT_IMAGE, ImageRequest, Written};

/// Looks variables up.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The variable of agentkernel's that names the image.
pub(crate) const IMAGE: &str = "AGENTKERNEL_IMAGE";

/// By these engines are found, by their own command lines and by agentkernel. Those of the caller's
/// own folders are among them, since an engine without a daemon has its images there.
const ENGINES: &[&str] = &[
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "FIRECRACKER_BIN",
    "FIRECRACKER_KERNEL",
    "FIRECRACKER_JAIL",
    "FIRECRACKER_SNAPSHOTS",
    "KUBECONFIG",
    "KUBERNETES_AGENT_IMAGE",
    "KUBERNETES_CONTEXT",
    "KUBERNETES_DEADLINE",
    "KUBERNETES_NAMESPACE",
    "KUBERNETES_NODE_SELECTOR",
    "KUBERNETES_POOLS",
    "KUBERNETES_PULL_SECRETS",
    "KUBERNETES_REQUESTS",
    "KUBERNETES_RUNTIME_CLASS",
    "KUBERNETES_SERVICE_ACCOUNT",
    "KUBERNETES_TOLERATIONS",
    "NOMAD_ADDR",
    "NOMAD_AGENT_PATH",
    "NOMAD_CACERT",
    "NOMAD_CAPATH",
    "NOMAD_CLIENT_CERT",
    "NOMAD_CLIENT_KEY",
    "NOMAD_DATACENTERS",
    "NOMAD_DRIVER",
    "NOMAD_NAMESPACE",
    "NOMAD_REGION",
    "NOMAD_SKIP_VERIFY",
    "NOMAD_TLS_SERVER_NAME",
    "NOMAD_TOKEN",
    // Where agentkernel's own images are, too.
    "HOME",
    "XDG_DATA_HOME",
];

/// Folders that agentkernel has of its own in a world, and engines' own command lines have not.
const TOOLS_ONLY: &[&str] = &["XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"];

/// The sockets of an ordinary user's engines, in their runtime folder.
const SOCKETS: &[&str] = &["docker.sock", "podman"];

/// What a backend's engine has to be found by. Nothing, where there is none.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    image: Option<String>,
    is_for_modules: bool,
    engines: Vec<(&'static str, OsString)>,
    /// Absent ones are to be so; none of them is touched where there is no engine.
    tools_only: Vec<(&'static str, Option<OsString>)>,
}

impl Surroundings {
    /// Those of a backend, out of the caller's variables.
    ///
    /// # Errors
    ///
    /// The caller names no image that this backend takes.
    pub fn of(backend: &dyn Backend, variables: Variables<'_>) -> Result<Self, String> {
        let mut surroundings = Self::default();
        let has = |capability| backend.capabilities().has(capability);
        surroundings.is_for_modules = has(Capability::ImageModule);
        // The machine's own programs are what all are compared with.
        if has(Capability::ImageReference) && !has(Capability::ImageHost) {
            surroundings.image = Some(image(variables(IMAGE).as_deref())?);
        }
        if surroundings.image.is_some() {
            let known = |&name: &&'static str| Some((name, variables(name)?));
            surroundings.engines = ENGINES.iter().filter_map(known).collect();
        }
        if backend.about().class == Class::Container {
            surroundings.tools_only =
                TOOLS_ONLY.iter().map(|&name| (name, variables(name))).collect();
        }
        Ok(surroundings)
    }

    /// The image of its sandboxes, if it takes one by name.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// Whether commands are modules, so that one has to stand for what is measured.
    pub(crate) fn is_for_modules(&self) -> bool {
        self.is_for_modules
    }

    /// Has agentkernel find the engine, and take the image.
    pub(crate) fn surround(&self, command: &mut Command) {
        command.envs(self.engines.iter().map(|(name, value)| (name, value)));
        command.envs(self.image.iter().map(|image| (IMAGE, image)));
    }

    /// Has an engine's own command line find what it would find for the caller.
    pub(crate) fn surround_tool(&self, command: &mut Command) {
        command.envs(self.engines.iter().map(|(name, value)| (name, value)));
        for (name, value) in &self.tools_only {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }

    /// Shows engines' sockets of the caller's runtime folder in agentkernel's own.
    pub(crate) fn show_sockets(&self, runtime: &Path) -> io::Result<()> {
        let callers = self.tools_only.iter().find(|(name, _)| *name == "XDG_RUNTIME_DIR");
        let Some((_, Some(callers))) = callers else { return Ok(()) };
        for name in SOCKETS {
            let socket = Path::new(callers).join(name);
            if socket.is_absolute() && socket.exists() {
                symlink(socket, runtime.join(name))?;
            }
        }
        Ok(())
    }
}

/// The image that is asked for, or the one that agentkernel takes where nothing asks for another.
fn image(asked: Option<&OsStr>) -> Result<String, String> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return Ok(DEFAULT_IMAGE.to_owned());
    };
    match ImageRequest::read(asked).map_err(|error| format!("{IMAGE}: {error}"))? {
        ImageRequest::Reference(name) => Ok(name),
        ImageRequest::Auto => Ok(DEFAULT_IMAGE.to_owned()),
        ImageRequest::Host | ImageRequest::Rootfs(_) | ImageRequest::Module(_) => Err(format!(
            "{IMAGE} is {}, and this backend takes an image by its name",
            asked.to_string_lossy()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::image;

    #[test]
    fn an_image_is_taken_by_its_name() {
        let of = |text: &str| image(Some(OsStr::new(text)));
        assert_eq!(of("localhost/own:1"), Ok("localhost/own:1".to_owned()));
        for unnamed in [image(None), of(""), of("auto")] {
            assert_eq!(unnamed.as_deref(), Ok(agentkernel_wire::DEFAULT_IMAGE));
        }
        for other in ["host", "rootfs:/x", "a.wasm", "/x", "a b"] {
            assert!(of(other).is_err_and(|why| why.contains("AGENTKERNEL_IMAGE")), "{other}");
        }
    }
}
