//! The bridge's own side.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use agentkernel_mux::Outer;
use agentkernel_sys::socket;
use serde::{Deserialize, Serialize};

use crate::last::LastWords;
use crate::word;

/// What a booter says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Open {
        place: String,
    },
    /// A link comes along, and a listening socket and a file if so.
    Serve {
        listener: bool,
        fate: bool,
    },
    Release,
    /// The place is to end. The end of the stream means that the booter is dead.
    End,
}

/// What a bridge says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// What is to be known of how it was come by goes along.
    Opened {
        note: Option<String>,
    },
    Failed {
        why: String,
    },
    /// The last of all.
    Gone {
        words: String,
    },
}

/// A way into a place.
#[derive(Debug)]
pub struct Stream {
    /// What comes out of it.
    pub input: OwnedFd,
    /// What goes into it. When it is closed the place ends.
    pub output: OwnedFd,
    /// What it says besides; its end is that of the place, as far as that can be known here.
    pub errors: Option<OwnedFd>,
}

/// How long a place may take to end whose stream has ended.
const DEATH: Duration = Duration::from_secs(10);

/// Serves whoever has [started](crate::Bridge::start) this process, to the end of the place into which
/// `open` opens a stream. Its threads are the caller's to start.
pub fn carry(open: impl FnOnce(&str) -> Result<Stream, String>) -> io::Result<()> {
    carry_noted(|place| open(place).map(|stream| (stream, None)))
}

/// The same by an `open` that has something to tell whoever opens a place [noted](crate::Bridge::open_noted).
pub fn carry_noted(
    open: impl FnOnce(&str) -> Result<(Stream, Option<String>), String>,
) -> io::Result<()> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let (Order::Open { place }, _) = word::receive(control.as_fd())? else {
        return Err(nonsense());
    };
    let (Stream { input, output, errors }, note) = match open(&place) {
        Ok(stream) => stream,
        Err(why) => return word::send(control.as_fd(), &Reply::Failed { why }, &[]),
    };
    word::send(control.as_fd(), &Reply::Opened { note }, &[input.as_fd(), output.as_fd()])?;
    let words = hear_errors(errors);
    let fate = serve(&control, input, output)?;
    // The stream is closed by now, and so the place ends.
    let words = match words.recv_timeout(DEATH) {
        // Whoever has made the place sees that nothing is said of its end.
        Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
        words => LastWords::new(words.unwrap_or_default()),
    };
    if let (Some(fate), Some(why)) = (fate, words.fate()) {
        // Whoever misses the reason sees that it has ended all the same.
        let _ = File::from(fate).write_all(why.as_bytes());
    }
    let gone = Reply::Gone { words: words.text().to_owned() };
    // Nobody is there to hear it if the place was released.
    let _ = word::send(control.as_fd(), &gone, &[]);
    Ok(())
}

/// Serves links until the place has ended, or is to end. Returns the file for its fate.
fn serve(control: &OwnedFd, input: OwnedFd, output: OwnedFd) -> io::Result<Option<OwnedFd>> {
    // If the booter is dead, nobody waits for last words, and the place may never have any.
    let (listener, fate, descriptors) = match word::receive(control.as_fd())? {
        (Order::Serve { listener, fate }, descriptors) => (listener, fate, descriptors),
        (Order::End, _) => return Ok(None),
        (Order::Open { .. } | Order::Release, _) => return Err(nonsense()),
    };
    let mut descriptors = descriptors.into_iter();
    let link = descriptors.next().ok_or_else(nonsense)?;
    let mut next = |expected: bool| expected.then(|| descriptors.next()).flatten();
    let (listener, fate) = (next(listener), next(fate));
    let mut outer = Outer::new(input, output)?.quit_by(await_leave(control.try_clone()?)?);
    if let Some(listener) = listener {
        outer = outer.listen(listener);
    }
    outer.admit(link);
    let rest = outer.serve();
    // Of commands that have ended; who does not take it goes without.
    let _ = rest.deliver();
    Ok(fate)
}

/// A descriptor that can be read when the booter has gone without having released the place.
fn await_leave(control: OwnedFd) -> io::Result<OwnedFd> {
    let (quit, held) = socket::pair()?;
    thread::Builder::new().name("control".into()).spawn(move || {
        if let Ok((Order::Release, _)) = word::receive(control.as_fd()) {
            // For as long as this process lives.
            std::mem::forget(held);
        }
    })?;
    Ok(quit)
}

/// Takes what the place says besides, as much of it as anybody needs, to its end.
fn hear_errors(errors: Option<OwnedFd>) -> mpsc::Receiver<String> {
    const MOST: usize = 4096;
    let (tell, told) = mpsc::channel();
    let Some(errors) = errors else { return told };
    // Without it there are no last words.
    let _ = thread::Builder::new().name("errors".into()).spawn(move || {
        let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
        let mut errors = File::from(errors);
        while let Ok(read @ 1..) = errors.read(&mut buffer) {
            text.extend_from_slice(&buffer[..read]);
            // The last ones count.
            text.drain(..text.len().saturating_sub(MOST));
        }
        let _ = tell.send(String::from_utf8_lossy(&text).into_owned());
    });
    told
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
