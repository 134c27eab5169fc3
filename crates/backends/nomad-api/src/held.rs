//! An allocation that is there, and execs in it.

use std::time::Duration;

use agentkernel_containers::{AGENT, RELAY};
use agentkernel_core::BootError;
use agentkernel_far::understood;
use tokio::time::timeout;

use crate::client::{Client, WATCH, quoted};
use crate::error::ApiError;
use crate::exec::{self, Socket};
use crate::pump::send_first;
use crate::words::Allocation;

/// How long Nomad may take to say whether it still has it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the agent's program from the stream, has process 1 become it, says so, and brings it the rest of
/// the stream.
const TAKE: &str = "cd /alloc/agentkernel && head -c \"$0\" > new && chmod 555 new && \
    mv new agent && kill -USR1 1 && echo && exec /.agentkernel/agent relay";

pub struct Held {
    pub client: Client,
    pub allocation: String,
    /// The agent's program, if it is to be sent.
    pub program: Option<Vec<u8>>,
    /// Whether it outlasts its stream.
    pub kept: bool,
}

impl Held {
    /// Has the agent brought a stream, and itself there before, unless it is `known` to be.
    pub async fn exec(&mut self, known: bool) -> Result<Socket, BootError> {
        if known {
            self.program = None;
        }
        let Some(program) = &self.program else {
            let opened = exec::open(&self.client, &self.allocation, &[AGENT, RELAY]).await;
            return opened.map_err(ApiError::into_boot_error);
        };
        let size = program.len().to_string();
        let take = ["/bin/sh", "-c", TAKE, &size];
        let opened = exec::open(&self.client, &self.allocation, &take).await;
        let mut socket = opened.map_err(ApiError::into_boot_error)?;
        match send_first(self, &mut socket, program).await {
            Ok(()) => Ok(socket),
            Err(words) => {
                let words = String::from_utf8_lossy(&words).trim().to_owned();
                let words = if words.is_empty() { "the exec has ended".into() } else { words };
                Err(understood(&words, "can't send the sandbox's agent"))
            }
        }
    }

    /// Whether there is no use in another try.
    pub async fn is_gone(&mut self) -> bool {
        let path = format!("/v1/allocation/{}", quoted(&self.allocation));
        let found = timeout(PATIENCE, self.client.get::<Allocation>(&path, &[], WATCH)).await;
        match found {
            Ok(Ok(found)) => found.body.is_over(),
            Ok(Err(error)) => error.is_absence(),
            // Nomad may be back soon.
            Err(_) => false,
        }
    }
}
