//! A stream for process 1 where the engine has none for it, or writes down all that passes through that:
//! it gives one to a process that it starts beside. That one hands it over, and is there until the end.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;

/// Where the two meet. It is gone before any command runs.
const MEETING: &str = "/run/.agentkernel";

/// How long one may take to come for the other.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it is waited before the next look whether process 1 is there.
const BREATH: Duration = Duration::from_millis(5);

/// Makes the standard streams those that another process brings.
pub fn take() -> io::Result<()> {
    let listener = socket::listen(Path::new(MEETING))?;
    let come = descriptor::poll(&mut [Interest::readable(listener.as_fd())], Some(PATIENCE))?;
    if !come {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let link = socket::accept(listener.as_fd())?;
    // Nobody else is to come.
    fs::remove_file(MEETING)?;
    let (_, streams) = socket::receive(link.as_fd(), &mut [0])?;
    let streams: Vec<_> = streams.into_iter().flatten().collect();
    let [input, output, errors] = streams.as_slice() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    descriptor::become_standard_streams([input.as_fd(), output.as_fd(), errors.as_fd()])
}

/// Brings process 1 the own standard streams, and waits until the place ends, and this process with it.
pub fn bring() -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let link = loop {
        match socket::connect(Path::new(MEETING), PATIENCE) {
            Ok(link) => break link,
            Err(error) if Instant::now() > until => return Err(error),
            // It is about to begin.
            Err(_) => descriptor::poll(&mut [], Some(BREATH))?,
        };
    };
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    socket::send(link.as_fd(), &[0], &[input.as_fd(), output.as_fd(), errors.as_fd()])?;
    drop(link);
    // Only process 1 is to have them, so that its end is theirs.
    let null = descriptor::open_read(c"/dev/null")?;
    descriptor::become_standard_streams([null.as_fd(); 3])?;
    loop {
        descriptor::poll(&mut [], None)?;
    }
}
