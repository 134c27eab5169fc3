//! What carries the stream into a pod, as long as that works.
//!
//! An exec starts a process there, which takes a node's runtime fifty milliseconds. A forwarded port starts
//! none, and is there for the first stream alone: the agent closes it then. Runtimes with a network of their
//! own, such as gVisor's and Kata's, lead nowhere by it; so it is of use if the agent is heard.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use agentkernel_containers::{AGENT, RELAY, WELCOME};
use agentkernel_far::session::LONGEST;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, split};
use tokio::time::timeout;

use crate::client::Client;
use crate::pod::{CONTAINER, PORT};

/// How long an agent may take to be heard by its port.
const PATIENCE: Duration = Duration::from_secs(2);

/// A way into a pod.
pub struct Way {
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Comes to an end when it has failed in a way that nothing else tells.
    pub failure: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whose end is that of all.
    _exec: Option<AttachedProcess>,
}

impl Way {
    /// Has the agent brought a stream by an exec.
    pub async fn by_exec(pods: &Api<Pod>, name: &str) -> Result<Self, kube::Error> {
        let parameters = AttachParams::default()
            .container(CONTAINER)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .max_stdin_buf_size(LONGEST)
            .max_stdout_buf_size(LONGEST);
        let mut exec = pods.exec(name, [AGENT, RELAY], &parameters).await?;
        let (Some(input), Some(output)) = (exec.stdin(), exec.stdout()) else {
            return Err(kube::Error::Service("an exec without streams".into()));
        };
        let status = exec.take_status();
        let failure = async {
            // One that has ended has said all before.
            let has_failed = match status {
                Some(status) => status.await.is_none(),
                None => false,
            };
            if !has_failed {
                pending::<()>().await;
            }
        };
        Ok(Self {
            input: Box::new(input),
            output: Box::new(output),
            failure: Box::pin(failure),
            _exec: Some(exec),
        })
    }

    /// Has the agent, to whom nobody has come yet, take a connection to its port. Whatever is in the way,
    /// an exec may lead there.
    pub async fn by_port(client: &Client, name: &str) -> Option<Self> {
        // What has a runtime class is likely to have a network of its own, too.
        if client.settings.runtime_class.is_some() {
            return None;
        }
        let pods = client.pods();
        let forwarded = async {
            let mut forwarder = pods.portforward(name, &[PORT]).await.ok()?;
            let mut stream = forwarder.take_stream(PORT)?;
            (stream.read_u8().await.ok()? == WELCOME).then(|| split(stream))
        };
        let (output, input) = timeout(PATIENCE, forwarded).await.ok()??;
        Some(Self {
            input: Box::new(input),
            output: Box::new(output),
            failure: Box::pin(pending()),
            _exec: None,
        })
    }
}
