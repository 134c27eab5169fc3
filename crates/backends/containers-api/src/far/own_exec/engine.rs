//! What the engine does for a place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ExecConfig;
use bollard::query_parameters::{
    KillContainerOptions, ResizeExecOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use http::{Request, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};

use super::script::{self, Words};
use crate::client::{DEATH, status, words};
use crate::host::{Far, Host};
use crate::transport;

/// How long it is waited between two looks whether what runs has ended, at first and later.
const BREATH: Duration = Duration::from_millis(5);
const LONG_BREATH: Duration = Duration::from_secs(1);

/// How long a signal may take on its way.
const SIGNAL: Duration = Duration::from_secs(10);

/// The engine, and the container that it is asked about.
pub struct Engine {
    docker: Docker,
    far: Far,
    container: String,
}

/// What is to be run.
pub struct Exec {
    pub words: Words,
    /// `UID:GID`.
    pub user: String,
    pub terminal: bool,
}

impl Engine {
    pub fn new(docker: Docker, host: Host, container: String) -> io::Result<Arc<Self>> {
        let Host::Far(far) = host else { return Err(io::ErrorKind::Unsupported.into()) };
        Ok(Arc::new(Self { docker, far, container }))
    }

    /// Starts an exec, and returns its number and its stream. It need not run yet.
    ///
    /// The client would make pieces of that, of which it takes those of a terminal for others if they
    /// begin with certain bytes.
    pub async fn start(&self, exec: Exec) -> io::Result<(String, TokioIo<Upgraded>)> {
        let Exec { words: Words { command, variables }, user, terminal } = exec;
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(!terminal),
            tty: Some(terminal),
            // No bytes of the stream are for the engine.
            detach_keys: Some(String::new()),
            user: Some(user),
            cmd: Some(command),
            env: Some(variables),
            ..Default::default()
        };
        let made = self.docker.create_exec(&self.container, config).await.map_err(told)?;
        let version = self.docker.client_version();
        let (major, minor) = (version.major_version, version.minor_version);
        let request =
            Request::post(format!("http://docker/v{major}.{minor}/exec/{}/start", made.id))
                .header("Connection", "Upgrade")
                .header("Upgrade", "tcp")
                .header("Content-Type", "application/json")
                .body(format!(r#"{{"Detach":false,"Tty":{terminal}}}"#));
        let request = request.map_err(io::Error::other)?;
        let answer = transport::ask(&self.far, request).await?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK => {
                let stream = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
                Ok((made.id, TokioIo::new(stream)))
            }
            status => Err(io::Error::other(format!("the engine does not start it: {status}"))),
        }
    }

    pub async fn resize(&self, exec: &str, (rows, columns): (u16, u16)) -> io::Result<()> {
        let options = ResizeExecOptionsBuilder::new().h(rows.into()).w(columns.into()).build();
        self.docker.resize_exec(exec, options).await.map_err(told)
    }

    /// Waits until an exec has ended, and returns its status; none if it never ran.
    pub async fn await_exec(&self, exec: &str) -> io::Result<Option<i64>> {
        let mut breath = BREATH;
        loop {
            let found = self.docker.inspect_exec(exec).await.map_err(told)?;
            if found.running != Some(true) {
                return Ok(found.exit_code.filter(|_| found.pid.is_some_and(|pid| pid != 0)));
            }
            // Whoever has closed its output may go on for ever.
            sleep(breath).await;
            breath = (breath * 2).min(LONG_BREATH);
        }
    }

    /// Sends a signal as `user`. Whether it has arrived is not known.
    pub async fn signal(&self, user: &str, signal: u8, to: i64) -> io::Result<()> {
        let config = ExecConfig {
            user: Some(user.to_owned()),
            cmd: Some(script::signal(signal, to)),
            ..Default::default()
        };
        let sent = async {
            let made = self.docker.create_exec(&self.container, config).await.map_err(told)?;
            let start = bollard::exec::StartExecOptions { detach: true, ..Default::default() };
            self.docker.start_exec(&made.id, Some(start)).await.map_err(told)?;
            self.await_exec(&made.id).await
        };
        timeout(SIGNAL, sent).await?.map(drop)
    }

    pub async fn pause(&self, paused: bool) -> io::Result<()> {
        let done = match paused {
            true => self.docker.pause_container(&self.container).await,
            false => self.docker.unpause_container(&self.container).await,
        };
        done.map_err(told)
    }

    /// How many processes there are, besides process 1 and its child.
    pub async fn count(&self) -> io::Result<usize> {
        let found = self.docker.top_processes(&self.container, None).await.map_err(told)?;
        Ok(found.processes.map_or(0, |all| all.len()).saturating_sub(2))
    }

    /// Kills all that runs, and waits until it is dead.
    pub async fn kill(&self) -> io::Result<()> {
        let killed = async {
            // What is paused would not die.
            let _ = self.docker.unpause_container(&self.container).await;
            let wait = WaitContainerOptionsBuilder::new().condition("not-running").build();
            let mut wait = self.docker.wait_container(&self.container, Some(wait));
            match self.docker.kill_container(&self.container, None::<KillContainerOptions>).await {
                Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                    return Err(told(error));
                }
                _ => {}
            }
            // Of one that is gone already it says so.
            let _ = wait.next().await;
            Ok(())
        };
        timeout(DEATH, killed).await?
    }
}

fn told(error: Error) -> io::Error {
    io::Error::other(words(&error))
}
