//! A place, from a spec and a cluster.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use agentkernel_containers::{
    Enforced, FarAbout, NO_LANDLOCK, Setting, identity_of, refuse_missing,
};
use agentkernel_core::{
    BootError, DestroyError, Image, ImageFacts, Life, LimitInForce, LimitKind, Limited, Network,
    Origin, Place, Provision, Pull, RootAccess, Spec, hex,
};
use agentkernel_far::{ADOPTED, Bridge, FarError, FarPlace, KeyFile, Told, understood, word};
use agentkernel_sys::cgroup::Found;
use agentkernel_sys::{identity, socket};
use kube::api::DeleteParams;

use crate::adopt;
use crate::bridge::{self, ARRIVAL};
use crate::claim::{Note, remove_claimed};
use crate::client::{Client, failed, runtime};
use crate::names;
use crate::order::Order;
use crate::pod::{self, HOME, Parts};
use crate::probe::walls;
use crate::sandboxes;
use crate::settings::Settings;
use crate::shared::Template;

/// How long an agent may take for a word.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an agent may take to say why it is none.
const END: Duration = Duration::from_secs(15);

/// Why a limit of the number of processes does not hold.
pub const NO_PIDS: &str = "the kubelet has one limit for all pods, if any, and none for each";

pub fn boot(spec: &Spec, life: &Life, pooled: bool) -> Result<Box<dyn Place>, BootError> {
    let settings = Settings::read()?;
    let reference = reference(spec)?;
    let user = pod::user(&spec.user, identity::effective())?;
    let kept = life.name.is_some();
    let file = life.layers.as_deref().map(|layers| KeyFile::read(layers.join(names::KEY_FILE)));
    let file =
        file.transpose().map_err(|error| failed("can't read which pod has the files", error))?;
    let name = match &life.name {
        Some(name) => names::kept(name),
        None => names::made_up().map_err(|error| failed("can't make up a pod's name", error))?,
    };
    let owner = agentkernel_far::owner();
    let made = file.as_ref().and_then(|file| file.key);
    let holder = life.layers.as_deref().filter(|_| kept).map(adopt::own_holder).transpose();
    let holder = holder.map_err(|error| failed("can't write down whose the pod is", error))?;
    let key = made.map_or_else(agentkernel_far::random, Ok);
    let key = key.map_err(|error| failed("can't get random numbers", error))?;
    let hex = hex(&key);
    let parts = Parts {
        name: &name,
        owner: &owner,
        reference,
        agent_image: settings.agent_image()?,
        key: &hex,
        user,
        kept,
        deadline: settings.lifetime(kept),
    };
    let mut pod = pod::pod(spec, &settings, &parts);
    if let Some(holder) = &holder {
        adopt::describe(&mut pod, holder, life.story.as_deref());
    }
    let closed = spec.network == Network::None;
    let made = made.is_some();
    let pool = (pooled && !kept).then(|| Template::of(&pod, settings.pools).digest);
    let lifetime = settings.lifetime(kept);
    let own_name = name.clone();
    let order =
        Order { pod, name: own_name, owner, key, holder, pool, lifetime, made, kept, closed };
    let order =
        serde_json::to_string(&order).map_err(|e| failed("can't say what the pod is", e))?;
    let mut bridge = Bridge::start(&mut bridge::program()).map_err(far)?;
    let mut note = None;
    let greeted = greet(&bridge, &order, spec, life, user, &mut note);
    let greeted = greeted.and_then(|greeted| {
        let written = file.map(|file| file.write(&key)).transpose();
        written.map_err(unheard).map(|_| greeted)
    });
    match greeted {
        Ok(Greeted { link, image, walls, limits }) => {
            let note = note.map(|note| note.text);
            let notes = notes(spec).into_iter().chain(note).collect();
            let told = Told { image, walls, limits, notes };
            let kill = Box::new(move || remove(&name));
            Ok(Box::new(FarPlace::new(bridge, link, told, kill)))
        }
        Err(error) => {
            // It removes what it has made.
            let words = bridge.end(END).ok();
            if note.is_some_and(|note| note.is_claimed) && is_failure(&error) {
                // Nothing has run, and whatever was wrong with that one, another is to be had.
                return boot(spec, life, false);
            }
            if words.as_ref().is_some_and(|words| words.fate() == Some(ADOPTED)) {
                return Err(adopt::lost("somebody else"));
            }
            let words = words.filter(|words| !words.text().is_empty());
            Err(match (error, words) {
                (BootError::Failed { what, .. }, Some(words)) => {
                    BootError::Failed { what, source: io::Error::other(words.text().to_owned()) }
                }
                (error, _) => error,
            })
        }
    }
}

/// Whether it is about what was booted, and not about what was asked for.
fn is_failure(error: &BootError) -> bool {
    matches!(error, BootError::Failed { .. })
}

/// The name by which the node is to find the image.
pub fn reference(spec: &Spec) -> Result<&str, BootError> {
    match &spec.image {
        Image::Reference(name) => Ok(name),
        _ => Err(BootError::Refused {
            why: "a pod starts only images by their names".into(),
            fix: "name one, as in --image debian".into(),
        }),
    }
}

/// Each node pulls what it does not have.
pub fn provide(spec: &Spec, provision: &Provision) -> Result<(), BootError> {
    reference(spec)?;
    match provision.pull {
        Pull::Missing => Ok(()),
        Pull::Always | Pull::Never => Err(BootError::Refused {
            why: "whether an image is pulled again is each node's to know: a pod's is pulled where it \
                  is missing"
                .into(),
            fix: "leave out --pull, or name the image by its digest".into(),
        }),
    }
}

/// What every pod does less well than others.
pub const FAR: &str = "pods are on other machines, so that commands take a round trip there, and no \
                       folder of this machine can be mounted";

/// What a pod does less well than others.
fn notes(spec: &Spec) -> Vec<String> {
    let loopback = "without a network there is no loopback interface either: a pod has one network, of \
                    which its commands get no sockets";
    let closed = spec.network == Network::None;
    [Some(FAR), closed.then_some(loopback)].into_iter().flatten().map(Into::into).collect()
}

/// An agent that serves its link.
struct Greeted {
    link: OwnedFd,
    image: ImageFacts,
    walls: Vec<agentkernel_core::Wall>,
    limits: Vec<LimitInForce>,
}

/// Has the pod made, tells its agent how the place is to be, and waits until it says something.
fn greet(
    bridge: &Bridge,
    order: &str,
    spec: &Spec,
    life: &Life,
    ids: (u32, u32),
    note: &mut Option<Note>,
) -> Result<Greeted, BootError> {
    let (input, output, told) = bridge.open_noted(order, ARRIVAL + PATIENCE).map_err(far)?;
    *note = told.and_then(|told| serde_json::from_str(&told).ok());
    let said: FarAbout = word::read(input.as_fd(), PATIENCE).map_err(unheard)?;
    let no_landlock = (!said.has_landlock).then_some(NO_LANDLOCK);
    let walls = walls(&spec.network, said.own_users, no_landlock);
    refuse_missing(&walls, spec)?;
    let image = facts(&said, spec, ids);
    let user = identity_of(&spec.user, &image)?;
    let (limits, nearest) = limits(spec, &said)?;
    let setting = Setting {
        no_internet: spec.network == Network::None,
        ..Setting::new(&user, nearest, life)
    };
    word::write(output.as_fd(), &setting).map_err(unheard)?;
    drop((input, output));
    let [listener, fate] = [&life.listener, &life.fate].map(|fd| fd.as_ref().map(AsFd::as_fd));
    let link = bridge.serve(listener, fate).map_err(far)?;
    // The hello itself is for whoever gets the place.
    socket::await_word(link.as_fd(), PATIENCE).map_err(unheard)?;
    Ok(Greeted { link, image, walls, limits })
}

/// What the image says of commands in it, by what its runtime has given the agent: the cluster does not
/// tell. Whom the pod runs as is its user.
fn facts(said: &FarAbout, spec: &Spec, (uid, gid): (u32, u32)) -> ImageFacts {
    let ours = |name: &str| name == "HOSTNAME" || name == "HOME" || name.starts_with("KUBERNETES_");
    let given = said
        .environment
        .iter()
        .filter(|pair| pair.split_once('=').is_some_and(|(name, _)| !ours(name)));
    let number = uid.to_string();
    let is_own = |line: &&str| line.split(':').nth(2) == Some(&number);
    let own = said.about.passwd.lines().find(is_own);
    // Where nothing of the image's can be written, its home is of no use.
    let closed = spec.root == RootAccess::ReadOnly;
    let name = own.and_then(|line| line.split(':').next()).unwrap_or(pod::AGENTS_NAME);
    let line = match own.filter(|_| !closed) {
        Some(line) => line.to_owned(),
        None => format!("{name}:x:{uid}:{gid}::{HOME}:/bin/sh"),
    };
    ImageFacts {
        user: Some(format!("{uid}:{gid}")),
        passwd: format!("{line}\n{}", said.about.passwd),
        group: said.about.group.clone(),
        environment: given.cloned().collect(),
        directory: Some(said.directory.clone()),
        ..ImageFacts::default()
    }
}

/// The limits in force, by what the pod's agent sees of its control groups.
fn limits(
    spec: &Spec,
    said: &FarAbout,
) -> Result<(Vec<LimitInForce>, Vec<agentkernel_guest::Nearest>), BootError> {
    let FarAbout { cpu, memory, pids, .. } = said;
    let found = Found { directories: Vec::new(), cpu: *cpu, memory: *memory, pids: *pids };
    let mut others = spec.clone();
    let asked = others.limits.pids.take();
    let Enforced { mut limits, nearest } = Enforced::check(&others, &found, false)?;
    if let Some(asked) = asked {
        let value = u64::from(asked.value);
        let by = match (pids, asked.by) {
            (Some(found), _) if *found <= value => Limited::Exactly("control group".into()),
            (_, Origin::Profile) if !spec.strict => Limited::Nowise { why: NO_PIDS.into() },
            _ => return Err(agentkernel_containers::refused(LimitKind::Pids, NO_PIDS)),
        };
        limits.push(LimitInForce { kind: LimitKind::Pids, value, by });
    }
    Ok((limits, nearest))
}

/// Removes a pod, if it is there.
pub fn remove(name: &str) -> Result<(), DestroyError> {
    let left = |why: String| DestroyError {
        what: format!("the pod {name}"),
        source: io::Error::other(why),
    };
    let removed = Settings::read().and_then(|settings| {
        runtime()?.block_on(async {
            let client = Client::find(settings).await?;
            if sandboxes::give_back(&client, name).await? {
                return Ok(());
            }
            let now = DeleteParams::default().grace_period(0);
            match client.pods().delete(name, &now).await {
                Ok(_) => Ok(()),
                // It may have been claimed, and has another name.
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    remove_claimed(&client, name).await
                }
                Err(error) => Err(client.refusal("delete", "pods", &error)),
            }
        })
    });
    removed.map_err(|error| left(error.to_string()))
}

const UNREACHED: &str = "can't reach into the pod";

fn far(error: FarError) -> BootError {
    match error {
        FarError::Open(text) => understood(&text, UNREACHED),
        FarError::Unwanted => {
            BootError::Refused { why: error.to_string(), fix: "run it again".into() }
        }
        FarError::Start(source) | FarError::Gone(source) => {
            BootError::Failed { what: UNREACHED.into(), source }
        }
    }
}

fn unheard(source: io::Error) -> BootError {
    BootError::Failed { what: "the pod's agent does not answer".into(), source }
}
