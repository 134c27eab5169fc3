//! How long is waited, and how often it is tried.

use std::future::{Future, pending};
use std::io;
use std::time::Duration;

use agentkernel_sys::signal;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use crate::RegistryError;
use crate::error::{Again, Trouble};

/// How much a try must have brought to count for none.
pub const PROGRESS: u64 = 1 << 20;

/// There is no bound on how long all of it may take, as long as something comes.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte.
    pub silence: Duration,
    /// How often the same is tried, if nothing comes of it.
    pub tries: u32,
    /// How long is waited before the second try; it doubles from one to the next.
    pub pause: Duration,
    /// How long a registry may ask to be left alone.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            tries: 5,
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// Waits for what comes, or says nothing if that is too long. Signals that would end a program do
    /// so here too, if they are held back.
    pub async fn attend<T>(
        most: Duration,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, RegistryError> {
        tokio::select! {
            biased;
            came = timeout(most, work) => Ok(came.ok()),
            ended = ending() => Err(match ended {
                Ok(()) => RegistryError::Interrupted,
                Err(error) => RegistryError::Start(error),
            }),
        }
    }

    /// Tries until something comes of it, or until it would be in vain. A try is told whether it is
    /// to begin afresh, and says with its trouble how much it has brought.
    pub async fn persist<T>(
        &self,
        mut attempt: impl AsyncFnMut(bool) -> Result<T, (Trouble, u64)>,
    ) -> Result<T, RegistryError> {
        let mut tries = 0;
        let mut was_afresh = false;
        loop {
            tries += 1;
            let (Trouble { error, again }, came) = match attempt(was_afresh).await {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            if came >= PROGRESS {
                tries = 1;
            }
            let gave_up = |source| RegistryError::GaveUp { tries, source: Box::new(source) };
            let asked = match again {
                Again::Never if tries == 1 => return Err(error),
                Again::Never => return Err(gave_up(error)),
                // What is wrong twice from its start stays wrong.
                Again::Afresh if was_afresh => return Err(error),
                Again::Later(_) if tries >= self.tries => return Err(gave_up(error)),
                Again::Afresh => {
                    was_afresh = true;
                    continue;
                }
                Again::Later(asked) => asked,
            };
            was_afresh = false;
            Self::attend(self.pause_before(tries, asked), pending::<()>()).await?;
        }
    }

    /// How long is waited after so many tries. Others may have been turned away in the same moment,
    /// and are not to come back in the same.
    fn pause_before(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let pause = self.pause * 2_u32.pow(tries.min(6) - 1);
        let pause = pause.mul_f64(0.5 + fastrand::f64());
        asked.map_or(pause, |asked| asked + pause.mul_f64(0.1))
    }
}

/// Returns when somebody wants an end.
async fn ending() -> io::Result<()> {
    // No pipe, but it is only waited for, and for no other descriptor is there a safe way to do that.
    Receiver::from_owned_fd_unchecked(signal::endings()?)?.readable().await
}
