//! A place, from a spec and an engine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use agentkernel_containers::{
    AboutPlace, Attacher, Bound, Enforced, NO_LANDLOCK, Product, Seen, Setting, identity_of, look,
    own_name, refuse_missing, refused, walls,
};
use agentkernel_core::{
    BootError, DestroyError, Identity, ImageFacts, Life, LimitInForce, LimitKind, Place, Port,
    Remains, RootAccess, Spec, Wall,
};
use agentkernel_far::word;
use agentkernel_sys::cgroup::{self, Found};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{landlock, process, socket};
use bollard::errors::Error;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptions, StartContainerOptions,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::time::timeout;

use crate::client::{Client, DEATH, failed, status, words};
use crate::config::{self, Parts, Way};
use crate::door::{self, Door};
use crate::{far, image, kept, published};

/// How long it may take from the engine's word that it has started until the agent connects.
pub const ARRIVAL: Duration = Duration::from_secs(60);

/// A container with its agent.
pub struct ContainerPlace {
    client: Client,
    /// The container's name.
    name: String,
    link: OwnedFd,
    pid: i32,
    /// Of the same process; gone when it was awaited, or let go.
    init: Option<OwnedFd>,
    image: ImageFacts,
    groups: Vec<PathBuf>,
    walls: Vec<Wall>,
    limits: Vec<LimitInForce>,
    ports: Vec<Port>,
}

/// What was there before an error, to be removed.
pub struct Made<'a> {
    pub client: &'a Client,
    pub name: &'a str,
    pub kept: bool,
}

pub fn boot(
    product: &'static Product,
    spec: &Spec,
    life: Life,
) -> Result<Box<dyn Place>, BootError> {
    let client = Client::connect(product)?;
    Ok(match client.is_far() {
        true => Box::new(far::boot(client, spec, &life)?),
        false => Box::new(boot_near(client, spec, life)?),
    })
}

fn boot_near(client: Client, spec: &Spec, life: Life) -> Result<ContainerPlace, BootError> {
    let product = client.product;
    let broken = |what: &'static str| move |source| BootError::Failed { what: what.into(), source };
    let rootless = client.is_rootless();
    let walls = walls(&spec.network, rootless, no_landlock());
    refuse_missing(&walls, spec)?;
    published::check(&client, spec)?;
    let hosts_users = client.is_anothers();
    let bound = (hosts_users && !spec.mounts.is_empty())
        .then(|| Bound::hold(&spec.mounts, product.title))
        .transpose()?;
    let reference = image::reference(spec)?;
    let image = client.image_or_pull(reference)?;
    let image = ImageFacts { hosts_users, only_caller: bound.is_some(), ..image };
    let kept = life.name.is_some();
    let name = life.name.as_deref().map_or_else(own_name, kept::container);
    let lasting = life.layers.as_deref().map(|layers| door::lasting(layers, &name)).transpose();
    let lasting = lasting.map_err(broken("can't make the sandbox's door"))?;
    let door = Door::open(lasting.as_deref()).map_err(broken("can't make the sandbox's door"))?;
    let agent = match &lasting {
        Some(lasting) => door::lasting_agent(lasting),
        None => door::agent(),
    };
    let agent = agent.map_err(broken("can't find the agent's program"))?;
    let (door_folder, agent) = (door.folder(), &*agent);
    // Names are known only once the image's own lists are.
    let user = identity_of(&spec.user, &image);
    let user = user.unwrap_or_else(|_| Identity::known(1000, 1000, "agent"));
    let home = if user.uid == 0 { "/root" } else { &user.home };
    // Whom the caller is to be in a container of the caller's own engine, so that the caller's files
    // are those of whom commands run as. Without a word it is root.
    let keeps = rootless && product.keeps_users && user.uid != 0;
    let kept_user = keeps.then_some((user.uid, user.gid));
    // Of root's in an engine of the caller's there is one user namespace for all containers.
    let shares_users = rootless && kept_user.is_none();
    let copy = client.copy_for(&life)?;
    let reference = copy.as_deref().unwrap_or(reference);
    let covers_by_option = product.covers_by_option;
    let way = Way::Near { agent, door: door_folder, bound: bound.as_ref() };
    let parts = Parts {
        name: &name,
        reference,
        way,
        rootless,
        proxied: published::is_proxied(&client),
        covers_by_option,
        home,
        kept_user,
        kept,
        folder: life.layers.as_deref(),
    };
    client.create(spec, &parts)?;
    let made = Made { client: &client, name: &name, kept };
    let users = Users { shared: shares_users, own: kept_user.is_some(), bound: bound.as_ref() };
    let booted = client
        .refuse_device_link(&name)
        .and_then(|()| made.start(&door, spec))
        .and_then(|link| greet(product, link, spec, life, image, users, walls));
    drop(door);
    let booted = booted.and_then(|greeted| Ok((greeted, published::ports(&client, &name, spec)?)));
    let (Greeted { link, pid, init, image, groups, limits, walls }, ports) = match booted {
        Ok(greeted) => greeted,
        Err(error) => {
            made.remove();
            return Err(error);
        }
    };
    let init = Some(init);
    Ok(ContainerPlace { client, name, link, pid, init, image, groups, walls, limits, ports })
}

/// Whether a container's user namespace is that of all containers of an engine of the caller's, or
/// its own alone. That of the host is neither, and what the engine mounts in it is bound to that.
#[derive(Clone, Copy)]
struct Users<'a> {
    shared: bool,
    own: bool,
    bound: Option<&'a Bound<'a>>,
}

/// Why this machine's kernel has no Landlock, if that is so.
pub fn no_landlock() -> Option<&'static str> {
    landlock::version().err().map(|_| NO_LANDLOCK)
}

/// An agent that serves its link.
struct Greeted {
    link: OwnedFd,
    pid: i32,
    init: OwnedFd,
    image: ImageFacts,
    groups: Vec<PathBuf>,
    limits: Vec<LimitInForce>,
    walls: Vec<Wall>,
}

/// Tells an agent that has connected how its place is to be.
fn greet(
    product: &Product,
    link: OwnedFd,
    spec: &Spec,
    life: Life,
    mut image: ImageFacts,
    users: Users<'_>,
    walls: Vec<Wall>,
) -> Result<Greeted, BootError> {
    let unheard =
        |source| BootError::Failed { what: "the sandbox's agent does not answer".into(), source };
    socket::limit_waiting(link.as_fd(), ARRIVAL).map_err(unheard)?;
    let pid = socket::peer(link.as_fd()).map_err(unheard)?.pid;
    if pid == 0 {
        return Err(BootError::Unavailable {
            why: "the engine's containers are out of sight: it runs in another process namespace"
                .into(),
            fix: "use an engine that runs beside agentkernel".into(),
        });
    }
    let (about, _) = word::receive::<AboutPlace>(link.as_fd()).map_err(unheard)?;
    let walls = look(walls, &about).map_err(unheard)?;
    refuse_missing(&walls, spec)?;
    users.bound.map_or(Ok(()), |bound| bound.check_users(&about))?;
    let init = process::open_pidfd(pid).map_err(unheard)?;
    (image.passwd, image.group) = (about.passwd, about.group);
    let user = identity_of(&spec.user, &image)?;
    let needs_closing = spec.root == RootAccess::ReadOnly && !product.closes_devices;
    if needs_closing || users.own || (!spec.mounts.is_empty() && users.bound.is_none()) {
        let attacher = Attacher::new(pid, spec, (user.uid, user.gid), life.layers.as_deref())?;
        let attacher = if needs_closing { attacher.closing_devices() } else { attacher };
        let attacher = if users.own { attacher.bounding_users() } else { attacher };
        attacher.attach()?;
    }
    let found = Found::of(pid).map_err(unheard)?;
    let Enforced { limits, nearest } = Enforced::check(spec, &found, users.shared)?;
    let shown = users.bound.map(Bound::targets).unwrap_or_default();
    let setting = Setting { shown, ..Setting::new(&user, nearest, &life) };
    let descriptors = [&life.listener, &life.fate].map(|fd| fd.as_ref().map(AsFd::as_fd));
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.into_iter().flatten().collect();
    word::send(link.as_fd(), &setting, &descriptors).map_err(unheard)?;
    if let Some(bound) = users.bound {
        let (seen, _) = word::receive::<Vec<Option<Seen>>>(link.as_fd()).map_err(unheard)?;
        bound.check(&seen)?;
        word::send(link.as_fd(), &(), &[]).map_err(unheard)?;
    }
    Ok(Greeted { link, pid, init, image, groups: found.directories, limits, walls })
}

impl Client {
    /// What the image says of commands in it, which is fetched if it is not there.
    pub fn image_or_pull(&self, reference: &str) -> Result<ImageFacts, BootError> {
        if let Some(image) = self.image(reference)? {
            return Ok(image);
        }
        self.pull(reference)?;
        Ok(self.image(reference)?.unwrap_or_default())
    }

    /// The image that a place begins with if it is a copy: it has the other's files. What counts of
    /// its image is the spec's.
    pub fn copy_for(&self, life: &Life) -> Result<Option<String>, BootError> {
        let Some(copy) = life.name.as_deref().map(kept::image) else { return Ok(None) };
        Ok(self.image(&copy)?.is_some().then_some(copy))
    }

    /// Makes a container, unless it is one that is kept and there already.
    pub fn create(&self, spec: &Spec, parts: &Parts<'_>) -> Result<(), BootError> {
        let options = CreateContainerOptionsBuilder::new().name(parts.name).build();
        let container = config::container(spec, parts);
        let _turn = parts.rootless.then(|| self.turn());
        let created = self.docker.create_container(Some(options), container);
        match self.runtime.block_on(created) {
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) && parts.kept => match self.is_ours(parts.name) {
                Ok(true) => {
                    self.await_rest(parts.name);
                    Ok(())
                }
                _ => Err(BootError::Refused {
                    why: format!(
                        "{} has another container named {}",
                        self.product.title, parts.name
                    ),
                    fix: "rename that container; it is not agentkernel's".into(),
                }),
            },
            Err(error) => Err(self.refusal(&error, spec)),
        }
    }

    /// Waits until a container that has ended counts as such for its engine.
    pub fn await_rest(&self, name: &str) {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        self.runtime.block_on(async {
            let mut waited = pin!(self.docker.wait_container(name, Some(options)));
            // A start that comes too early is refused, with better words.
            let _ = timeout(DEATH, waited.next()).await;
        });
    }

    /// What the engine's refusal to make or start a container means.
    fn refusal(&self, error: &Error, spec: &Spec) -> BootError {
        let text = words(error);
        if spec.limits.disk.is_some() && text.contains("storage-opt") {
            return refused(LimitKind::Disk, &text);
        }
        match status(error) {
            // Words of Docker's and of Podman's. Whose socket it is can't be seen otherwise.
            _ if ["bind source path does not exist", "statfs "]
                .iter()
                .any(|w| text.contains(w)) =>
            {
                BootError::Unavailable {
                    why: format!(
                        "{} at {} can't see the files of this machine: {text}",
                        self.product.title, self.host
                    ),
                    fix: "if the socket leads to another machine, name that by tcp:// or ssh:// \
                          instead, so that it is known to be elsewhere"
                        .into(),
                }
            }
            Some(400) => BootError::Refused {
                why: format!("{} refuses the sandbox: {text}", self.product.title),
                fix: "ask for less, or use another backend".into(),
            },
            _ => failed(format!("{} can't make the sandbox", self.product.title), error),
        }
    }
}

/// Whether a container of the name is there. Podman has no status of its own for that.
pub fn is_taken(error: &Error) -> bool {
    status(error) == Some(409) || words(error).contains("already in use")
}

impl Made<'_> {
    /// Starts it, and waits for its agent. The engine is not waited for any longer: it has more to
    /// do when that runs.
    fn start(&self, door: &Door, spec: &Spec) -> Result<OwnedFd, BootError> {
        let client = self.client;
        let failed_here =
            |source| BootError::Failed { what: "the sandbox's agent did not come".into(), source };
        let started = client.runtime.block_on(async {
            let started =
                pin!(client.docker.start_container(self.name, None::<StartContainerOptions>));
            let admitted = pin!(door.admit());
            match select(admitted, started).await {
                Either::Left((link, _)) => Ok(link.map_err(failed_here)),
                Either::Right((Ok(()), admitted)) => Ok(match timeout(ARRIVAL, admitted).await {
                    Ok(link) => link.map_err(failed_here),
                    Err(_) => Err(failed_here(io::ErrorKind::TimedOut.into())),
                }),
                Either::Right((Err(error), _)) => Err(error),
            }
        });
        started.unwrap_or_else(|error| {
            let other =
                || failed(format!("{} can't start the sandbox", client.product.title), &error);
            Err(published::refusal(client, &error, spec).unwrap_or_else(other))
        })
    }

    /// Removes it, unless it keeps something.
    pub fn remove(&self) {
        if self.kept {
            let kill = self.client.docker.kill_container(self.name, None::<KillContainerOptions>);
            let _ = self.client.runtime.block_on(kill);
            return;
        }
        // What can't be removed now is swept later.
        let _ = self.client.remove(self.name);
    }
}

impl Place for ContainerPlace {
    fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn walls(&self) -> &[Wall] {
        &self.walls
    }

    fn limits(&self) -> &[LimitInForce] {
        &self.limits
    }

    fn ports(&self) -> &[Port] {
        &self.ports
    }

    fn image(&self) -> ImageFacts {
        self.image.clone()
    }

    fn pid(&self) -> i32 {
        self.pid
    }

    fn groups(&self) -> Vec<PathBuf> {
        self.groups.clone()
    }

    fn explain(&self, step: u16, error: io::Error) -> BootError {
        BootError::Failed {
            what: format!("the sandbox's agent failed at step {step}"),
            source: error,
        }
    }

    fn release(mut self: Box<Self>) -> io::Result<()> {
        self.init = None;
        Ok(())
    }

    fn kill(&self) {
        // It ends with its link.
        let _ = socket::close_for_all(self.link.as_fd());
    }

    fn destroy(mut self: Box<Self>) -> Result<Remains, DestroyError> {
        self.end()
    }
}

impl ContainerPlace {
    /// Ends it, if that was not done yet, and waits until everything in it is dead. The engine
    /// clears away what it has made of it by itself.
    fn end(&mut self) -> Result<Remains, DestroyError> {
        let Some(init) = self.init.take() else { return Ok(Remains::default()) };
        let oom_kills = cgroup::oom_kills(self.groups.clone());
        self.kill();
        let mut dead = [Interest::readable(init.as_fd())];
        let left = |source| DestroyError { what: format!("the container {}", self.name), source };
        if !descriptor::poll(&mut dead, Some(DEATH)).map_err(left)? {
            // An agent that does not heed its link.
            let kill = self.client.docker.kill_container(&self.name, None::<KillContainerOptions>);
            let killed = self.client.runtime.block_on(kill);
            if !descriptor::poll(&mut dead, Some(DEATH)).map_err(left)? {
                let why = killed.err().map_or("it does not die".into(), |error| words(&error));
                return Err(left(io::Error::other(why)));
            }
        }
        Ok(Remains { oom_kills, ..Remains::default() })
    }
}

impl Drop for ContainerPlace {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = self.end();
    }
}
