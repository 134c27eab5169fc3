//! What a machine says on its console, and Firecracker of itself.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// So much is kept, from the end.
const MOST: usize = 4096;

/// The last of it, which all copies of this have.
#[derive(Debug, Clone)]
pub struct Console {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Console {
    /// Keeps what is read from `pipe`, to its end.
    pub fn keep(pipe: OwnedFd) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&kept);
        let read = move || {
            let (mut pipe, mut buffer) = (File::from(pipe), [0; 1024]);
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..read]);
                let surplus = kept.len().saturating_sub(MOST);
                kept.drain(..surplus);
            }
        };
        // Without it there are no words, and whoever writes them is told so.
        let reader = thread::Builder::new().name("console".into()).spawn(read).ok();
        Self { kept, reader: Arc::new(Mutex::new(reader)) }
    }

    /// What was said last, as the end of a sentence.
    pub fn last(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        match text.trim() {
            "" => "; it said nothing".into(),
            text => format!("; it said last:\n{text}"),
        }
    }

    /// The same of one that has ended.
    pub fn last_words(&self) -> String {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What it has read is there, however it ended.
        let _ = reader.map(JoinHandle::join);
        self.last()
    }
}
