//! Spares that count, in a world that can kill them.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use agentkernel_pool::Spare;
use rustix::event::{EventfdFlags, eventfd};

/// How a boot ends that does not succeed.
pub enum Failure {
    Error(&'static str),
    Panic(&'static str),
}

#[derive(Default)]
pub struct World {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many were ever booted.
    booted: usize,
    /// Those that were not destroyed, and what they say that they are unwell with.
    live: HashMap<usize, Arc<OwnedFd>>,
    /// How the next boots fail.
    failures: VecDeque<Failure>,
    /// When boots were tried.
    tries: Vec<Instant>,
    /// Dropped without having been destroyed.
    lost: usize,
}

pub struct Fake {
    /// Counted from 0, in the order of boots.
    pub number: usize,
    voice: Arc<OwnedFd>,
    world: Arc<World>,
}

impl World {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A world whose first boots fail.
    pub fn failing(failures: impl IntoIterator<Item = Failure>) -> Arc<Self> {
        let world = Self::new();
        world.state.lock().unwrap().failures.extend(failures);
        world
    }

    pub fn boot(self: &Arc<Self>) -> Result<Fake, String> {
        let mut state = self.state.lock().unwrap();
        state.tries.push(Instant::now());
        match state.failures.pop_front() {
            Some(Failure::Error(why)) => return Err(why.to_owned()),
            Some(Failure::Panic(why)) => {
                drop(state);
                panic!("{why}");
            }
            None => (),
        }
        let voice = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| e.to_string())?);
        let number = state.booted;
        state.booted += 1;
        state.live.insert(number, voice.clone());
        Ok(Fake { number, voice, world: self.clone() })
    }

    /// Has it say something, which a healthy one never does.
    pub fn make_unwell(&self, number: usize) {
        if let Some(voice) = self.state.lock().unwrap().live.get(&number) {
            rustix::io::write(voice, &1u64.to_ne_bytes()).unwrap();
        }
    }

    pub fn booted(&self) -> usize {
        self.state.lock().unwrap().booted
    }

    pub fn live(&self) -> usize {
        let state = self.state.lock().unwrap();
        assert_eq!(state.lost, 0, "some were dropped and never destroyed");
        state.live.len()
    }

    pub fn tries(&self) -> Vec<Instant> {
        self.state.lock().unwrap().tries.clone()
    }
}

impl Spare for Fake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.voice.as_fd()
    }

    fn destroy(self) {
        self.world.state.lock().unwrap().live.remove(&self.number);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Ok(mut state) = self.world.state.lock()
            && state.live.remove(&self.number).is_some()
        {
            state.lost += 1;
        }
    }
}
