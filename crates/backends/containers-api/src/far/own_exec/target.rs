//! Whom a command's signals reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentkernel_sys::signal;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::agent::Agent;

/// What its client wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Signal(u8),
    Kill,
}

/// How long one may take to die that was killed, before all else is killed with it.
const DEATH: Duration = Duration::from_secs(5);

/// The signals that a command was sent, one bit each.
#[derive(Default)]
pub struct Sent(AtomicU64);

impl Sent {
    fn note(&self, signal: u8) {
        self.0.fetch_or(1_u64.checked_shl(signal.into()).unwrap_or(0), Ordering::Relaxed);
    }

    pub fn contains(&self, signal: u8) -> bool {
        self.0.load(Ordering::Relaxed) & 1_u64.checked_shl(signal.into()).unwrap_or(0) != 0
    }
}

/// Whom a command's signals are for.
#[derive(Clone)]
pub struct Target {
    pub agent: Arc<Agent>,
    pub user: String,
    pub pid: i64,
    pub sent: Arc<Sent>,
}

impl Target {
    pub async fn signal_group(&self, signal: u8) {
        self.signal(signal, -self.pid).await;
    }

    async fn signal(&self, signal: u8, to: i64) {
        self.sent.note(signal);
        self.agent.await_motion().await;
        // It may have ended already.
        let _ = self.agent.engine.signal(&self.user, signal, to).await;
    }

    /// Does what the command's client wants, to the client's end or the command's.
    pub async fn obey(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(Order::Signal(signal)) = orders.recv().await {
            self.signal(signal, self.pid).await;
        }
        self.signal_group(signal::SIGKILL as u8).await;
        // If it dies, this ends here.
        sleep(DEATH).await;
        self.agent.end(None);
    }
}
