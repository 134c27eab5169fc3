//! The process that has a pod: it makes it, holds the stream into it, and removes it at its end.

use std::fs::File;
use std::io;
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use agentkernel_core::BootError;
use agentkernel_far::{Stream, carry_noted, told};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;
use agentkernel_sys::signal::{self, Signals};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, PostParams};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::adopt;
use crate::arrival;
use crate::claim::{Claimed, Note, claim, remove_claimed};
use crate::client::{Client, PATIENCE, failed, runtime};
use crate::order::Order;
use crate::pending::{Verdict, judge};
use crate::pod::network_policy;
use crate::pump::Pump;
use crate::sandboxes;
use crate::settings::Settings;
use crate::way::Way;

/// How long a pod may take from its making until it runs, its images fetched.
pub const ARRIVAL: Duration = Duration::from_secs(600);

/// How long a cluster may take to remove a pod.
const REMOVAL: Duration = Duration::from_secs(10);

/// How long a kubelet may know a pod that has gone, and how often it is asked meanwhile.
const FORGETTING: Duration = Duration::from_secs(10);
const BREATH: Duration = Duration::from_millis(100);

/// This program, as a bridge.
pub fn program() -> Command {
    let mut program = Command::new("/proc/self/exe");
    // Whose it is, for people who look at the list of processes.
    program.arg0("agentkerneld").args(["bridge", "kubernetes"]).current_dir("/");
    program
}

/// Serves as a bridge, to the end of the place. SIGTERM ends that.
pub fn bridge() -> io::Result<()> {
    // A terminal's signals are not for those who outlive it.
    process::new_session()?;
    let asked = Arc::new(Signals::receive(&[signal::SIGTERM])?);
    let (done, ended) = mpsc::channel();
    let carried = carry_noted(|order| {
        let order: Order = serde_json::from_str(order).map_err(|error| error.to_string())?;
        let opened = runtime().and_then(|runtime| {
            let (held, way) = runtime.block_on(open(order, asked.clone()))?;
            Ok((runtime, held, way))
        });
        let (runtime, held, way) = opened.map_err(told)?;
        let note = held.note.as_ref().and_then(|note| serde_json::to_string(note).ok());
        stream(runtime, held, way, done, asked)
            .map(|stream| (stream, note))
            .map_err(|error| told(failed("can't make a way for the pod's stream", error)))
    });
    // Whatever became of the booter, the pod is to be removed.
    let _ = ended.recv_timeout(REMOVAL + REMOVAL);
    carried
}

/// A pod that is there.
pub struct Held {
    client: Client,
    pub order: Order,
    /// What it is called, which who has claimed it had no say in.
    pod: String,
    /// How it was come by, if that is to be told.
    note: Option<Note>,
}

/// Makes the pod unless it is there, waits until it runs, and opens the stream into it. A booter that goes
/// meanwhile takes it along.
async fn open(order: Order, asked: Arc<Signals>) -> Result<(Held, Way), BootError> {
    let client = Client::find(Settings::read()?).await?;
    let mut held = Held { client, pod: order.name.clone(), order, note: None };
    let opened = tokio::select! {
        opened = timeout(ARRIVAL, held.open()) => opened.unwrap_or_else(|_| {
            Err(failed("the pod does not run", format!("{} s have passed", ARRIVAL.as_secs())))
        }),
        () = unwanted(asked) => Err(failed("the pod is not wanted any more", "its booter has gone")),
    };
    match opened {
        Ok(way) => Ok((held, way)),
        Err(error) => {
            held.discard().await;
            Err(error)
        }
    }
}

/// What was seen of it.
pub enum Look {
    There,
    Gone,
    /// Somebody else has it.
    Lost {
        to: String,
    },
    /// The cluster may be back soon.
    Unknown(BootError),
}

/// Returns when whoever has started this process has gone or wants nothing more, for nothing is said before
/// there was an answer, or when it is `asked` to end.
async fn unwanted(asked: Arc<Signals>) {
    let (tell, told) = oneshot::channel();
    let watch = move || {
        let control = io::stdin();
        let all = [control.as_fd(), asked.as_fd()];
        let gone = descriptor::poll(&mut all.map(Interest::readable), None);
        // Nobody may wait any more.
        gone.is_ok().then(|| tell.send(()))
    };
    match thread::Builder::new().name("booter".into()).spawn(watch) {
        Ok(_) => drop(told.await),
        Err(_) => std::future::pending().await,
    }
}

impl Held {
    async fn open(&mut self) -> Result<Way, BootError> {
        if let Some(way) = self.open_claimed().await {
            return Ok(way);
        }
        let Self { client, pod, .. } = &*self;
        if self.order.made {
            arrival::await_running(client, pod).await?;
            let way = self.exec().await?;
            // Only now: whoever adopts it later cuts this stream by their own. Nothing was said on it yet.
            return match self.look().await {
                Look::Lost { to } => Err(adopt::lost(&to)),
                Look::Unknown(error) => Err(error),
                Look::There | Look::Gone => Ok(way),
            };
        } else {
            let uid = self.make().await?;
            // No command runs before it is closed.
            tokio::try_join!(self.close(&uid), arrival::await_start(client, pod, &uid))?;
        }
        self.first_way().await
    }

    /// The way into a pod to which nobody has come. A kubelet may still know another one by its name, which
    /// has gone, and looks in vain for the container there; no event tells when it has forgotten that.
    async fn first_way(&self) -> Result<Way, BootError> {
        let until = Instant::now() + FORGETTING;
        loop {
            if let Some(way) = Way::by_port(&self.client, &self.pod).await {
                return Ok(way);
            }
            match self.exec().await {
                Err(error)
                    if error.to_string().contains("container not found")
                        && Instant::now() < until =>
                {
                    sleep(BREATH).await;
                }
                done => return done,
            }
        }
    }

    /// The way into a pod out of a shared pool, if one is to be had.
    async fn open_claimed(&mut self) -> Option<Way> {
        let digest = self.order.pool.as_deref()?;
        let (pod, note, way) = match claim(&self.client, &self.order, digest).await {
            Claimed::Pod { name, note, way } => (name, note, way),
            Claimed::Nothing(note) => {
                self.note = note;
                return None;
            }
        };
        self.note = Some(note);
        let own = mem::replace(&mut self.pod, pod);
        if way.is_some() {
            return way;
        }
        match self.first_way().await {
            Ok(way) => Some(way),
            // Such as that of a node that has just gone.
            Err(error) => {
                let why = format!("a pod of the cluster's pool was of no use: {error}");
                self.remove().await;
                self.note = Some(Note::made(why));
                self.pod = own;
                None
            }
        }
    }

    /// The way into a pod to whose agent somebody may have come before.
    pub async fn exec(&self) -> Result<Way, BootError> {
        let Self { client, pod, .. } = self;
        match timeout(PATIENCE, Way::by_exec(&client.pods(), pod)).await {
            Ok(Ok(way)) => Ok(way),
            Ok(Err(error)) => Err(self.exec_refusal(error)),
            Err(_) => Err(failed("can't reach into the pod", "the cluster does not answer")),
        }
    }

    fn exec_refusal(&self, error: kube::Error) -> BootError {
        match &error {
            kube::Error::UpgradeConnection(why) => {
                let forbidden = why.to_string().contains("403");
                match forbidden {
                    true => BootError::Refused {
                        why: format!(
                            "the cluster forbids to create pods/exec in the namespace {}",
                            self.client.namespace
                        ),
                        fix: "have the verb \"create\" (and \"get\") on \"pods/exec\" granted, as \
                              docs/kubernetes.md has the roles"
                            .into(),
                    },
                    false => failed("can't reach into the pod", why),
                }
            }
            other => self.client.refusal("create", "pods/exec", other),
        }
    }

    /// Makes the pod, and returns its number in the cluster.
    async fn make(&self) -> Result<String, BootError> {
        let Self { client, order, .. } = self;
        let pod = serde_json::from_value(order.pod.clone())
            .map_err(|error| failed("can't say what the pod is", error))?;
        let parameters = PostParams::default();
        let mut made = client.pods().create(&parameters, &pod).await;
        if matches!(&made, Err(kube::Error::Api(status)) if status.reason == "AlreadyExists") {
            if let Look::Lost { to } = self.look().await {
                return Err(adopt::lost(&to));
            }
            // Of a start that was killed before anybody knew of the pod: nothing has run in it.
            adopt::remove(client, &order.name, order.holder.as_deref()).await?;
            made = client.pods().create(&parameters, &pod).await;
        }
        let made = made.map_err(|error| client.refusal("create", "pods", &error))?;
        Ok(made.metadata.uid.unwrap_or_default())
    }

    /// Makes what keeps the pod of this number closed, if it is to be.
    async fn close(&self, uid: &str) -> Result<(), BootError> {
        let Self { client, order, .. } = self;
        if !order.closed {
            return Ok(());
        }
        let policy = network_policy(&order.name, uid, &order.owner);
        let policy: NetworkPolicy = serde_json::from_value(policy)
            .map_err(|error| failed("can't say what the pod's policy is", error))?;
        let policies: Api<NetworkPolicy> =
            Api::namespaced(client.client.clone(), &client.namespace);
        let made = policies.create(&PostParams::default(), &policy).await;
        made.map(drop).map_err(|error| client.refusal("create", "networkpolicies", &error))
    }

    /// Whether there is any use in another try.
    pub async fn look(&self) -> Look {
        let found = timeout(PATIENCE, self.client.pods().get_opt(&self.pod)).await;
        match found {
            Ok(Ok(Some(pod))) => match adopt::lost_to(&pod, &self.order) {
                Some(to) => Look::Lost { to },
                None if matches!(judge(&pod), Verdict::Never { .. }) => Look::Gone,
                None => Look::There,
            },
            Ok(Ok(None)) => Look::Gone,
            Ok(Err(error)) => Look::Unknown(self.client.refusal("get", "pods", &error)),
            Err(_) => {
                Look::Unknown(failed("can't look for the pod", "the cluster does not answer"))
            }
        }
    }

    /// Removes a pod that is of no use, unless it has been before.
    async fn discard(&self) {
        if !self.order.made {
            self.remove().await;
            if self.order.pool.is_some() {
                // Of a claim nobody may have heard what came of it.
                let claimed = remove_claimed(&self.client, &self.order.name);
                let _ = timeout(REMOVAL, claimed).await;
            }
        }
    }

    /// Removes the pod, by its claim if it has one.
    async fn remove(&self) {
        let Self { client, order, pod, note } = self;
        let is_claimed = note.as_ref().is_some_and(|note| note.is_claimed);
        let removed = async {
            let given_back = is_claimed && sandboxes::give_back(client, &order.name).await?;
            if !given_back {
                let now = DeleteParams::default().grace_period(0);
                let removed = client.pods().delete(pod, &now).await;
                removed.map_err(|error| client.refusal("delete", "pods", &error))?;
            }
            Ok::<_, BootError>(())
        };
        // What can't be removed now is swept later.
        let _ = timeout(REMOVAL, removed).await;
    }
}

/// Makes a stream of a way; when it has ended, so has the pod, unless that is kept, and it is `done`. It
/// ends when it is `asked` to.
fn stream(
    runtime: Runtime,
    held: Held,
    way: Way,
    done: mpsc::Sender<()>,
    asked: Arc<Signals>,
) -> io::Result<Stream> {
    let (ours, theirs) = UnixStream::pair()?;
    let (errors, errors_to) = descriptor::pipe()?;
    let input = OwnedFd::from(theirs.try_clone()?);
    let (end, over) = (ours.try_clone()?, ours.try_clone()?);
    thread::Builder::new().name("asked".into()).spawn(move || {
        // With the stream the place ends, and this process.
        let _ = descriptor::poll(&mut [Interest::readable(asked.as_fd())], None);
        let _ = end.shutdown(Shutdown::Read);
    })?;
    thread::Builder::new().name("pump".into()).spawn(move || {
        runtime.block_on(async {
            // An end is an end, for whatever reason.
            if let Ok(mut pump) = Pump::new(&held, ours, File::from(errors_to)) {
                pump.carry(way).await;
            }
            if !held.order.kept {
                held.remove().await;
            }
        });
        // Somebody else has it, too.
        let _ = over.shutdown(Shutdown::Both);
        drop(done);
    })?;
    Ok(Stream { input, output: theirs.into(), errors: Some(errors) })
}
