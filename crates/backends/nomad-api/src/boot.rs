//! A place, from a spec and a cluster.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_containers::{
    Enforced, FarAbout, NO_LANDLOCK, Setting, identity_of, refuse_missing, walls,
};
use agentkernel_core::{
    BootError, DestroyError, Identity, ImageFacts, Life, LimitInForce, LimitKind, Limited, Place,
    RootAccess, Spec, hex,
};
use agentkernel_far::{Bridge, FarError, FarPlace, KeyFile, Told, understood, word};
use agentkernel_sys::cgroup::Found;
use agentkernel_sys::{machine, socket};

use crate::bridge::{self, Plan};
use crate::client::Client;
use crate::error::{ApiError, failed};
use crate::job::{self, ENGINES, Parts};
use crate::settings::{Settings, Source};
use crate::{nodes, owner, probe};

/// How long a task may take until it runs, its image fetched.
const ARRIVAL: Duration = Duration::from_secs(600);

/// The file in a sandbox's folder that says that it has a job, and what its agent wants to hear.
const KEY_FILE: &str = "job";

/// How long an agent may take for a word once its task runs: its program may have to be sent.
const ANSWER: Duration = Duration::from_secs(60);

/// How long one may take to say why it is none.
const END: Duration = Duration::from_secs(15);

pub fn boot(spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
    job::check(spec)?;
    let settings = Settings::find()?;
    let (plan, file) = plan(spec, &life, settings)?;
    // No copy of this process: tokio keeps descriptors for all of it, which a copy would be without.
    let bridge = Bridge::start(&mut bridge::program()).map_err(far)?;
    let text = serde_json::to_string(&plan).map_err(io::Error::from);
    let text = text.map_err(|source| failed("can't say what the job is made of", source))?;
    let (input, output) = match bridge.open_slowly(&text, ARRIVAL) {
        Ok(streams) => streams,
        Err(error @ FarError::Open(_)) => return Err(far(error)),
        Err(error) => {
            // It removes what it has made.
            bridge.abandon();
            return Err(far(error));
        }
    };
    let greeted = greet(&bridge, (input, output), spec, &life).and_then(|greeted| {
        // From now on there is something to be kept.
        let written = file.map(|file| file.write(&plan.key)).transpose();
        written.map_err(Unserved::Gone).map(|_| greeted)
    });
    match greeted {
        Ok((link, told)) => {
            // What is in the job ends with its bridge.
            let kill = Box::new(|| Ok(()));
            Ok(Box::new(FarPlace::new(bridge, link, told, kill)))
        }
        Err(error) => Err(unserved(bridge, error)),
    }
}

/// What is to be booted.
fn plan(
    spec: &Spec,
    life: &Life,
    settings: Settings,
) -> Result<(Plan, Option<KeyFile>), BootError> {
    let exact = job::wants_exact_cpus(spec);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| failed("can't set up a connection", source))?;
    let mut client = Client::new(settings);
    let known = runtime.block_on(nodes::look(&mut client, exact.is_some()))?;
    let settings = client.settings;
    let file = life.layers.as_deref().map(|layers| KeyFile::read(layers.join(KEY_FILE)));
    let file = file.transpose();
    let file = file.map_err(|error| failed("can't read which job has the files", error))?;
    let made = file.as_ref().and_then(|file| file.key);
    let key = made.map_or_else(agentkernel_far::random, Ok);
    let key = key.map_err(|source| failed("can't get random numbers", source))?;
    let id = life.name.as_deref().map_or_else(own_id, |name| Ok(kept_id(name)))?;
    let user = identity_of(&spec.user, &ImageFacts::default());
    let user = user.unwrap_or_else(|_| Identity::known(1000, 1000, "agent"));
    let home = if user.uid == 0 { "/root" } else { &user.home };
    let (owner, boot) = (agentkernel_far::owner(), owner::boot());
    let mut meta = vec![(job::OWNER, &*owner), (job::BOOT, &*boot)];
    meta.extend(file.is_some().then_some((job::KEEPS, "files")));
    let parts = Parts {
        id: &id,
        region: settings.region.as_deref(),
        namespace: settings.namespace.as_deref(),
        datacenters: &known.datacenters,
        cpu: known.cpu,
        source: &settings.source,
        kept: file.is_some(),
        many_commands: life.listener.is_some(),
        home,
        meta: &meta,
    };
    let job = job::job(spec, &parts)?;
    let program = match settings.source {
        Source::Sent if made.is_none() => Some(program()?),
        Source::Sent | Source::Node(_) => None,
    };
    let image = job::reference(spec)?.to_owned();
    let (made, note) = (made.is_some(), file.as_ref().map(|file| file.path.clone()));
    Ok((Plan { settings, id, job, image, program, key, made, note }, file))
}

/// The job of a sandbox that is kept.
fn kept_id(name: &str) -> String {
    format!("{}{}", owner::PREFIX, name.to_ascii_lowercase())
}

/// Removes the job of a sandbox that was kept, if it is there.
pub fn forget(name: &str) -> Result<(), DestroyError> {
    let id = kept_id(name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| failed("can't set up a connection", source));
    let removed = Settings::find().and_then(|settings| {
        let mut client = Client::new(settings);
        runtime?.block_on(bridge::remove(&mut client, &id)).map_err(ApiError::into_boot_error)
    });
    removed.map_err(|error| DestroyError {
        what: format!("Nomad's job {id}"),
        source: io::Error::other(error.to_string()),
    })
}

/// A job's name that no other has.
fn own_id() -> Result<String, BootError> {
    let mut random = [0; 12];
    machine::random(&mut random).map_err(|source| failed("can't get random numbers", source))?;
    Ok(format!("{}{}", owner::PREFIX, hex(&random)))
}

/// The agent's program, which is the small one beside this.
fn program() -> Result<PathBuf, BootError> {
    let own = std::env::current_exe();
    let own = own.map_err(|source| failed("can't tell where this program is", source))?;
    let program = own.with_file_name("agentkernel");
    match program.is_file() {
        true => Ok(program),
        false => Err(BootError::Unavailable {
            why: format!("the agent's program is missing: there is no {}", program.display()),
            fix: "install agentkernel beside agentkerneld".into(),
        }),
    }
}

/// Hears an agent, and tells it how its place is to be.
fn greet(
    bridge: &Bridge,
    (input, output): (OwnedFd, OwnedFd),
    spec: &Spec,
    life: &Life,
) -> Result<(OwnedFd, Told), Unserved> {
    let said: FarAbout = word::read(input.as_fd(), ANSWER).map_err(Unserved::Gone)?;
    let image = image_of(&said);
    let walls = walls(&spec.network, said.own_users, (!said.has_landlock).then_some(NO_LANDLOCK));
    refuse_missing(&walls, spec)?;
    let user = identity_of(&spec.user, &image)?;
    if spec.root == RootAccess::ReadOnly && user.uid == 0 {
        return Err(Unserved::Refused(BootError::Refused {
            why: "Nomad can't keep root from writing in /dev, and the root is to be read-only"
                .into(),
            fix: "run it as another user than root".into(),
        }));
    }
    let found =
        Found { directories: Vec::new(), cpu: said.cpu, memory: said.memory, pids: said.pids };
    let Enforced { limits, nearest } = Enforced::check(spec, &found, said.own_users)?;
    let setting =
        Setting { closed: ENGINES.map(Into::into).into(), ..Setting::new(&user, nearest, life) };
    word::write(output.as_fd(), &setting).map_err(Unserved::Gone)?;
    let [listener, fate] = [&life.listener, &life.fate].map(|fd| fd.as_ref().map(AsFd::as_fd));
    let gone = |error: FarError| Unserved::Gone(io::Error::other(error.to_string()));
    let link = bridge.serve(listener, fate).map_err(gone)?;
    // The hello itself is for whoever gets the place.
    socket::await_word(link.as_fd(), ANSWER).map_err(Unserved::Gone)?;
    let notes = vec![
        "the sandbox is on a node of the cluster's, so that commands take a round trip there, and no \
         folder of this machine can be mounted"
            .to_owned(),
    ];
    let limits = limits.into_iter().map(because).collect();
    Ok((link, Told { image, walls, limits, notes }))
}

/// The limit with Nomad's own reason, if it holds but nearly.
fn because(limit: LimitInForce) -> LimitInForce {
    match limit.by {
        Limited::Nearly { means, .. } if limit.kind == LimitKind::Cpus => {
            LimitInForce { by: Limited::Nearly { means, why: probe::NOT_RESERVED.into() }, ..limit }
        }
        _ => limit,
    }
}

/// What its agent has told of an image: nobody here can look at that. Who runs in it, and by which words, is
/// not among it.
fn image_of(said: &FarAbout) -> ImageFacts {
    // What Docker and Nomad have added.
    let is_added = |pair: &&String| {
        let name = pair.split('=').next().unwrap_or_default();
        name == "HOME" || name == "HOSTNAME" || name.starts_with("NOMAD_")
    };
    ImageFacts {
        environment: said.environment.iter().filter(|pair| !is_added(pair)).cloned().collect(),
        directory: Some(said.directory.clone()).filter(|path| path.is_absolute()),
        passwd: said.about.passwd.clone(),
        group: said.about.group.clone(),
        ..ImageFacts::default()
    }
}

/// Why an agent does not serve its link.
enum Unserved {
    Gone(io::Error),
    Refused(BootError),
}

impl From<BootError> for Unserved {
    fn from(error: BootError) -> Self {
        Self::Refused(error)
    }
}

/// Ends a place that is none, and says why it is none. It may have had last words.
fn unserved(mut bridge: Bridge, error: Unserved) -> BootError {
    let ended = bridge.end(END);
    match (error, ended) {
        (Unserved::Refused(error), _) => error,
        (Unserved::Gone(_), Ok(words)) if !words.text().is_empty() => {
            understood(words.text(), "the sandbox's agent does not answer")
        }
        (Unserved::Gone(source), _) => failed("the sandbox's agent does not answer", source),
    }
}

fn far(error: FarError) -> BootError {
    match error {
        FarError::Unwanted => {
            BootError::Refused { why: error.to_string(), fix: "run it again".into() }
        }
        FarError::Open(told) => understood(&told, "can't boot the sandbox"),
        other => failed("can't reach the sandbox", io::Error::other(other.to_string())),
    }
}
