//! What a spec demands of a backend.

use agentkernel_core::{
    Access, Asked, Backend, Bytes, Capability, Image, Module, Network, Origin, Port, RootAccess,
    Spec,
};
use agentkernel_wire::ImageReport;

use crate::EngineError;

/// Less than this holds no program of Linux.
const LEAST_MEMORY: Bytes = Bytes::mib(4);

/// Refuses `spec` if `backend` can't do or enforce all of it, or if it lacks the module to run.
pub fn check(backend: &dyn Backend, spec: &Spec, terminal: bool) -> Result<(), EngineError> {
    check_part(backend, spec, terminal)?;
    match &spec.image {
        Image::Module(Module::Any) => Err(EngineError::refused(
            format!("the {} backend runs WebAssembly modules, and none was named", backend.name()),
            "name one, as in agentkernel run app.wasm or with --image app.wasm".into(),
        )),
        _ => Ok(()),
    }
}

/// The same of what a pool is of, which serves every module.
pub fn check_part(backend: &dyn Backend, spec: &Spec, terminal: bool) -> Result<(), EngineError> {
    let capabilities = backend.capabilities();
    match demanded(spec, terminal).into_iter().find(|demand| !capabilities.has(*demand)) {
        None => check_memory(backend, spec).and_then(|()| check_ports(spec)),
        Some(Capability::Ports) if capabilities.has(Capability::HostLoopback) => {
            Err(EngineError::refused(
                format!("the {} backend can't do or enforce: ports", backend.name()),
                "with --network full its commands listen on the host's own ports; leave out \
                 --publish, or choose a backend that `agentkernel doctor` lists with ports"
                    .into(),
            ))
        }
        Some(Capability::MountCopyOnWrite) if capabilities.has(Capability::MountReadWrite) => {
            Err(EngineError::refused(
                format!(
                    "the {} backend can't do or enforce: mount cow; it shows folders of the host, \
                     and can't keep apart what is changed in them",
                    backend.name()
                ),
                "name another access, as in --project=.:ro, or :rw, whose changes stay; or choose \
                 a backend that `agentkernel doctor` lists with mount cow"
                    .into(),
            ))
        }
        Some(Capability::ImageReference | Capability::ImageModule) => {
            Err(refuse_image(backend, &spec.image))
        }
        Some(Capability::ImageHost | Capability::ImageRootfs)
            if capabilities.has(Capability::ImageModule) =>
        {
            Err(refuse_image(backend, &spec.image))
        }
        Some(lacking) => Err(EngineError::refused(
            format!("the {} backend can't do or enforce: {}", backend.name(), lacking.name()),
            "leave that out, or choose a backend that `agentkernel doctor` lists with it".into(),
        )),
    }
}

/// Refuses so little memory that only a module could do with it.
fn check_memory(backend: &dyn Backend, spec: &Spec) -> Result<(), EngineError> {
    match spec.limits.memory {
        Some(Asked { value, .. })
            if value < LEAST_MEMORY && !backend.capabilities().has(Capability::ImageModule) =>
        {
            Err(EngineError::refused(
                format!("--memory {value} is too little to run anything"),
                format!("give it at least {LEAST_MEMORY}"),
            ))
        }
        _ => Ok(()),
    }
}

/// Refuses ports that nothing could come through.
fn check_ports(spec: &Spec) -> Result<(), EngineError> {
    match (spec.ports.first(), &spec.network) {
        (Some(port), Network::None) => Err(EngineError::refused(
            format!("the port {} can't be published without a network", port.target()),
            "add --network full, with which commands also reach what is outside, or leave out \
             --publish"
                .into(),
        )),
        _ => Ok(()),
    }
}

/// Refuses an image, whose name may be a slip of another word.
fn refuse_image(backend: &dyn Backend, image: &Image) -> EngineError {
    let (own, name) = (backend.name(), ImageReport::new(image, None).name);
    let (why, hint) = match image {
        Image::Module(_) => (
            format!(
                "the {own} backend can't run a WebAssembly module: {}",
                name.trim_start_matches("module:")
            ),
            "choose a backend that `agentkernel doctor` lists with image module",
        ),
        _ if backend.capabilities().has(Capability::ImageModule) => (
            format!("the {own} backend runs WebAssembly modules, and not the image {name}"),
            "name a module, as in --image app.wasm, or choose another backend",
        ),
        _ => (
            format!("the {own} backend can't start an image by its name: {name}"),
            "use the image host or rootfs:DIR, or a backend that `agentkernel doctor` lists with \
             image reference",
        ),
    };
    EngineError::refused(why, hint.into())
}

/// Refuses an image that turned out to be of the kind that `backend` is not for.
pub fn refuse_kind(backend: &dyn Backend, image: &Image) -> EngineError {
    let (own, name) = (backend.name(), image.reference().unwrap_or_default());
    let (why, hint) = match backend.capabilities().has(Capability::ImageModule) {
        true => (
            format!("{name} is an image of Linux programs, not a module"),
            "use -B native; if its name stands for a module by now, pass --pull always",
        ),
        false => (
            format!("{name} is a WebAssembly module, which the {own} backend can't run"),
            "use -B wasm",
        ),
    };
    EngineError::refused(why, hint.into())
}

/// The part of `spec` that a pool of `backend` holds, or why it holds none.
pub fn demand_pool(backend: &dyn Backend, spec: &Spec) -> Result<Spec, EngineError> {
    check_part(backend, spec, false)?;
    if let Some(port) = named_port(spec) {
        return Err(EngineError::refused(
            format!("a pool's sandboxes can't all have the host's port {}", port.host()),
            format!(
                "leave it out, so that each has one that the system picks: -p {}",
                port.target()
            ),
        ));
    }
    backend.pool_part(spec).ok_or_else(|| {
        let bare = Spec { mounts: Vec::new(), ..spec.clone() };
        if !spec.mounts.is_empty() && backend.pool_part(&bare).is_some() {
            return EngineError::refused(
                format!(
                    "nothing can be mounted in a pool's sandboxes of {} by this user: they are made \
                     before it is known what",
                    backend.name()
                ),
                "leave out --project and --volume, or run agentkernel and its daemon as root".into(),
            );
        }
        EngineError::refused(
            format!("the {} backend has no pools", backend.name()),
            "use it without".into(),
        )
    })
}

/// A port of the host's that no second place can have while one has it.
pub(crate) fn named_port(spec: &Spec) -> Option<&Port> {
    spec.ports.iter().find(|port| port.outside.is_some())
}

fn demanded(spec: &Spec, terminal: bool) -> Vec<Capability> {
    let mut demanded = vec![
        match spec.network {
            Network::None => Capability::NetworkNone,
            Network::Full => Capability::NetworkFull,
            Network::Allow(_) => Capability::NetworkAllow,
        },
        match spec.image {
            Image::Host => Capability::ImageHost,
            Image::Rootfs(_) => Capability::ImageRootfs,
            Image::Reference(_) => Capability::ImageReference,
            Image::Module(_) => Capability::ImageModule,
        },
    ];
    demanded.extend(spec.mounts.iter().map(|mount| match mount.access {
        Access::ReadOnly => Capability::MountReadOnly,
        Access::ReadWrite => Capability::MountReadWrite,
        Access::CopyOnWrite => Capability::MountCopyOnWrite,
    }));
    let limits = &spec.limits;
    // What only the profile asks for may fall back to a nearer wall, which the place tells of.
    fn firm<T>(limit: Option<Asked<T>>, strict: bool) -> bool {
        limit.is_some_and(|asked| strict || asked.by == Origin::User)
    }
    let conditional = [
        (!spec.ports.is_empty(), Capability::Ports),
        (spec.root == RootAccess::ReadOnly, Capability::RootReadOnly),
        (firm(limits.cpus, spec.strict), Capability::LimitCpus),
        (firm(limits.memory, spec.strict), Capability::LimitMemory),
        (firm(limits.pids, spec.strict), Capability::LimitPids),
        (firm(limits.disk, spec.strict), Capability::LimitDisk),
        (terminal, Capability::Terminal),
    ];
    demanded.extend(conditional.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what));
    demanded
}
