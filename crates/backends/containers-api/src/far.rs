//! Places of an engine that is elsewhere: it sees no folder and no socket of this machine, and its
//! containers' processes are nobody's here. Their agent serves one stream, which the engine attaches
//! to it; see [`agentkernel_far`].

mod agent;
mod carrier;
mod own_exec;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::time::Duration;

use agentkernel_containers::{
    Enforced, FarAbout, NO_LANDLOCK, Product, Setting, identity_of, own_name, refuse_missing, walls,
};
use agentkernel_core::{
    BootError, DestroyError, Identity, ImageFacts, Life, LimitInForce, RootAccess, Spec, Wall,
};
use agentkernel_far::{Bridge, FarError, FarPlace, Told, word};
use agentkernel_sys::cgroup::Found;
use agentkernel_sys::socket;
use bollard::query_parameters::{KillContainerOptions, StartContainerOptions};
use futures_util::future::{Either, select};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::boot::{ARRIVAL, Made};
use crate::client::{Client, DEATH, failed, status, words};
use crate::config::{Parts, Way};
use crate::{image, kept};

pub use carrier::{EXEC, bridge, program};
pub use own_exec::{HOLD, SHELL, foreign_machine, has_own_users, walls as walls_of_exec};

/// How long an agent may take to say why it is none.
const END: Duration = Duration::from_secs(15);

pub fn boot(client: Client, spec: &Spec, life: &Life) -> Result<FarPlace, BootError> {
    let product = client.product;
    refuse_shared(&client, spec)?;
    let machine = foreign_machine(&client.info()?);
    let machine = machine.as_deref();
    // It has its own connection to make meanwhile.
    let bridge = Bridge::start(&mut program(product, machine.is_some())).map_err(broken)?;
    let reference = image::reference(spec)?;
    let image = client.image_or_pull(reference)?;
    let kept = life.name.is_some();
    let name = life.name.as_deref().map_or_else(own_name, kept::container);
    let user = identity_of(&spec.user, &image);
    let user = user.unwrap_or_else(|_| Identity::known(1000, 1000, "agent"));
    let home = if user.uid == 0 { "/root" } else { &user.home };
    let copy = client.copy_for(life)?;
    let reference = copy.as_deref().unwrap_or(reference);
    let volume;
    let way = match machine {
        Some(_) => Way::Exec { owner: (user.uid, user.gid) },
        None => {
            volume = client.agent_volume(reference)?;
            Way::Far { volume: &volume }
        }
    };
    let parts = Parts {
        name: &name,
        reference,
        way,
        rootless: false,
        proxied: false,
        home,
        covers_by_option: product.covers_by_option,
        kept_user: None,
        kept,
        folder: life.layers.as_deref(),
    };
    client.create(spec, &parts)?;
    let made = Made { client: &client, name: &name, kept };
    let harmless = client.refuse_device_link(&name);
    let usable = harmless.and_then(|()| match machine {
        Some(machine) => client.refuse_without_shell(&name, machine),
        None => Ok(()),
    });
    let greeted = usable.and_then(|()| {
        match greet(&made, bridge, spec, life, &image, machine) {
            // A killed start may have left its attachment behind. An engine has one standard input for all
            // of a container's, so the end of that one can be the end of ours. The agent had not said hello,
            // so nothing has run: it can be tried again, by which time the other is gone.
            Err(Unserved::Gone(_)) if kept => {
                client.await_rest(&name);
                let bridge =
                    Bridge::start(&mut program(product, machine.is_some())).map_err(broken)?;
                greet(&made, bridge, spec, life, &image, machine)
            }
            greeted => greeted,
        }
        .map_err(Unserved::into_error)
    });
    match greeted {
        Ok((bridge, greeted)) => {
            let Greeted { link, image, walls, limits } = greeted;
            let told = Told { image, walls, limits, notes: notes(&client, machine) };
            let kill = Box::new(move || client.kill(&name));
            Ok(FarPlace::new(bridge, link, told, kill))
        }
        Err(error) => {
            made.remove();
            Err(error)
        }
    }
}

/// What is different with an engine that is elsewhere, on a machine that the agent may not be for.
pub fn notes(client: &Client, machine: Option<&str>) -> Vec<String> {
    let far = format!(
        "the engine is at {}, so that commands take a round trip there, and no folder of this machine \
         can be mounted",
        client.host
    );
    [Some(far), machine.map(own_exec::note)].into_iter().flatten().collect()
}

/// What is to be mounted lies here, and the engine is there; so are its ports.
fn refuse_shared(client: &Client, spec: &Spec) -> Result<(), BootError> {
    if let Some(port) = spec.ports.first() {
        return Err(BootError::Refused {
            why: format!(
                "no port of this machine can lead to {}: {} at {} has the ports of its own",
                port.target(),
                client.product.title,
                client.host
            ),
            fix: "use an engine on this machine".into(),
        });
    }
    let Some(mount) = spec.mounts.first() else { return Ok(()) };
    Err(BootError::Refused {
        why: format!(
            "{} can't be mounted: {} at {} can't see the folders of this machine",
            mount.source.display(),
            client.product.title,
            client.host
        ),
        fix: "use an engine on this machine, or put what is needed into the image (--build)".into(),
    })
}

/// An agent that serves its link.
struct Greeted {
    link: OwnedFd,
    image: ImageFacts,
    walls: Vec<Wall>,
    limits: Vec<LimitInForce>,
}

/// Why an agent does not serve its link.
enum Unserved {
    /// It has ended before its hello, so no command has run.
    Gone(BootError),
    Failed(BootError),
}

impl Unserved {
    fn into_error(self) -> BootError {
        match self {
            Self::Gone(error) | Self::Failed(error) => error,
        }
    }
}

impl From<BootError> for Unserved {
    fn from(error: BootError) -> Self {
        Self::Failed(error)
    }
}

/// Starts a container, tells its agent how the place is to be, and waits until it says something.
fn greet(
    made: &Made<'_>,
    mut bridge: Bridge,
    spec: &Spec,
    life: &Life,
    image: &ImageFacts,
    machine: Option<&str>,
) -> Result<(Bridge, Greeted), Unserved> {
    let product = made.client.product;
    let (input, output) = bridge.open(made.name).map_err(broken)?;
    made.start_far(&input)?;
    let said = match word::read::<FarAbout>(input.as_fd(), ARRIVAL) {
        Ok(said) => said,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Unserved::Gone(unheard(&mut bridge, error)));
        }
        Err(error) => return Err(unheard(&mut bridge, error).into()),
    };
    let FarAbout { about, own_users, has_landlock, cpu, memory, pids, .. } = said;
    let walls = match machine {
        Some(_) => walls_of_exec(&spec.network, own_users),
        None => walls(&spec.network, own_users, (!has_landlock).then_some(NO_LANDLOCK)),
    };
    refuse_missing(&walls, spec)?;
    let image = ImageFacts { passwd: about.passwd, group: about.group, ..image.clone() };
    let user = identity_of(&spec.user, &image)?;
    refuse_open_devices(product, spec, &user)?;
    let found = Found { directories: Vec::new(), cpu, memory, pids };
    let Enforced { limits, nearest } = Enforced::check(spec, &found, own_users)?;
    let limits = match machine {
        Some(_) => own_exec::without_nearest(limits),
        None => limits,
    };
    let setting = Setting::new(&user, nearest, life);
    let told = word::write(output.as_fd(), &setting);
    told.map_err(|error| Unserved::Gone(unheard(&mut bridge, error)))?;
    let [listener, fate] = [&life.listener, &life.fate].map(|fd| fd.as_ref().map(AsFd::as_fd));
    let link = bridge.serve(listener, fate).map_err(|error| Unserved::Gone(broken(error)))?;
    // The hello itself is for whoever gets the place.
    match socket::await_word(link.as_fd(), ARRIVAL) {
        Ok(()) => Ok((bridge, Greeted { link, image, walls, limits })),
        Err(error) => Err(Unserved::Gone(unheard(&mut bridge, error))),
    }
}

/// Only from outside could devices' directory be closed to root, too.
fn refuse_open_devices(product: &Product, spec: &Spec, user: &Identity) -> Result<(), BootError> {
    match spec.root == RootAccess::ReadOnly && !product.closes_devices && user.uid == 0 {
        true => Err(BootError::Refused {
            why: format!(
                "{} elsewhere can't keep root from writing in /dev, and the root is to be read-only",
                product.title
            ),
            fix: "run it as another user than root".into(),
        }),
        false => Ok(()),
    }
}

fn broken(error: FarError) -> BootError {
    BootError::Failed {
        what: "can't reach into the sandbox".into(),
        source: match error {
            FarError::Open(why) => io::Error::other(why),
            FarError::Unwanted => io::ErrorKind::Interrupted.into(),
            FarError::Start(error) | FarError::Gone(error) => error,
        },
    }
}

/// Why an agent has not said what it should have. It may have had last words.
fn unheard(bridge: &mut Bridge, error: io::Error) -> BootError {
    let source = match bridge.end(END) {
        Ok(words) if !words.text().is_empty() => io::Error::other(words.text().to_owned()),
        _ => error,
    };
    BootError::Failed { what: "the sandbox's agent does not answer".into(), source }
}

impl Made<'_> {
    /// Starts it, and waits until its agent says something. The engine is not waited for any longer.
    fn start_far(&self, input: &OwnedFd) -> Result<(), BootError> {
        let client = self.client;
        client.runtime.block_on(async {
            let started =
                pin!(client.docker.start_container(self.name, None::<StartContainerOptions>));
            let said = pin!(async {
                // Our own bridge's is a local socket.
                let input = StdUnixStream::from(input.try_clone()?);
                input.set_nonblocking(true)?;
                let input = UnixStream::from_std(input)?;
                timeout(ARRIVAL, input.readable()).await?
            });
            match select(said, started).await {
                // What it is, or that it never will, is seen by whoever reads it.
                Either::Left(_) | Either::Right((Ok(()), _)) => Ok(()),
                Either::Right((Err(error), _)) => {
                    Err(failed(format!("{} can't start the sandbox", client.product.title), &error))
                }
            }
        })
    }
}

impl Client {
    /// Kills a container whose agent does not heed the end of its stream.
    fn kill(&self, name: &str) -> Result<(), DestroyError> {
        let killed = self.docker.kill_container(name, None::<KillContainerOptions>);
        match self.runtime.block_on(async { timeout(DEATH, killed).await }) {
            Ok(Ok(())) => Ok(()),
            // It is gone, or does not run.
            Ok(Err(error)) if matches!(status(&error), Some(404 | 409)) => Ok(()),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err("the engine does not answer".into()),
        }
        .map_err(|why| DestroyError {
            what: format!("the container {name}"),
            source: io::Error::other(why),
        })
    }
}
