//! A place at the end of a bridge, as its backend hands it out.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{
    BootError, DestroyError, ImageFacts, LimitInForce, Place, Port, Remains, Wall,
};

use crate::bridge::Bridge;

/// How long a place may take to end, and its bridge to say so.
const END: Duration = Duration::from_secs(15);

/// Ends a place otherwise, whose agent does not heed the end of its stream.
pub type Kill = Box<dyn Fn() -> Result<(), DestroyError>>;

/// A place, which ends with this.
pub struct FarPlace {
    /// Gone when it was ended, or let go.
    bridge: Option<Bridge>,
    pid: i32,
    link: OwnedFd,
    told: Told,
    ports: Vec<Port>,
    kill: Kill,
    _held: Option<Box<dyn Any>>,
}

/// What a place's booter knows of it.
#[derive(Debug, Default)]
pub struct Told {
    pub image: ImageFacts,
    pub walls: Vec<Wall>,
    pub limits: Vec<LimitInForce>,
    pub notes: Vec<String>,
}

impl FarPlace {
    /// The place whose bridge [serves](Bridge::serve) `link`.
    pub fn new(bridge: Bridge, link: OwnedFd, told: Told, kill: Kill) -> Self {
        Self {
            pid: bridge.pid(),
            bridge: Some(bridge),
            link,
            told,
            ports: Vec::new(),
            kill,
            _held: None,
        }
    }

    /// The same with something that is let go with it.
    pub fn holding(mut self, held: Box<dyn Any>) -> Self {
        self._held = Some(held);
        self
    }

    /// The same with ports of this machine's that lead into it.
    pub fn with_ports(mut self, ports: Vec<Port>) -> Self {
        self.ports = ports;
        self
    }

    /// Ends it, if that was not done yet, and waits until everything in it is dead. The engine clears
    /// away what it has made of it by itself.
    fn end(&mut self) -> Result<Remains, DestroyError> {
        let Some(mut bridge) = self.bridge.take() else { return Ok(Remains::default()) };
        match bridge.end(END) {
            Ok(words) => Ok(Remains { oom_kills: words.oom_kills(), ..Remains::default() }),
            Err(_) => (self.kill)().map(|()| Remains::default()),
        }
    }
}

impl Place for FarPlace {
    fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn walls(&self) -> &[Wall] {
        &self.told.walls
    }

    fn limits(&self) -> &[LimitInForce] {
        &self.told.limits
    }

    fn notes(&self) -> &[String] {
        &self.told.notes
    }

    fn ports(&self) -> &[Port] {
        &self.ports
    }

    fn image(&self) -> ImageFacts {
        self.told.image.clone()
    }

    /// The bridge stands for it here.
    fn pid(&self) -> i32 {
        self.pid
    }

    fn groups(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn explain(&self, step: u16, error: io::Error) -> BootError {
        BootError::Failed {
            what: format!("the sandbox's agent failed at step {step}"),
            source: error,
        }
    }

    fn release(mut self: Box<Self>) -> io::Result<()> {
        self.bridge.take().map_or(Ok(()), Bridge::release)
    }

    fn kill(&self) {
        self.bridge.iter().for_each(Bridge::kill);
    }

    fn destroy(mut self: Box<Self>) -> Result<Remains, DestroyError> {
        self.end()
    }
}

impl Drop for FarPlace {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = self.end();
    }
}
