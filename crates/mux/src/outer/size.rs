//! Who notices that a terminal's size was set.
//!
//! The kernel tells that to nobody but the foreground processes of the terminal's session, by a
//! signal. So a process of its own leads such a session, and passes the news on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::{self, Child, Fork, Namespaces};
use agentkernel_sys::signal::{self, Signals};
use agentkernel_sys::terminal;

/// The process, for as long as this lives.
#[derive(Debug)]
pub struct SizeWatch {
    child: Child,
    news: OwnedFd,
    /// Closes with whoever wants to know, however that ends.
    hold: Option<OwnedFd>,
}

impl SizeWatch {
    /// Watches the terminal `of`, which must be nobody's controlling terminal. There is news once
    /// at the beginning, too, when a size that is set from then on can't be missed.
    pub fn new(of: BorrowedFd<'_>) -> io::Result<Self> {
        let (news, to_news) = descriptor::pipe()?;
        let (held, hold) = descriptor::pipe()?;
        descriptor::set_nonblocking(news.as_fd())?;
        match process::fork(Namespaces::NONE, None)? {
            Fork::Parent(child) => Ok(Self { child, news, hold: Some(hold) }),
            Fork::Child => {
                // Nobody is left who could be told why.
                let _ = pass_on(of, to_news.as_fd(), held.as_fd());
                process::exit_now(0)
            }
        }
    }

    pub fn interest(&self) -> Interest<'_> {
        Interest::readable(self.news.as_fd())
    }

    /// Takes the news. Returns false when there will be no more.
    pub fn take(&self) -> bool {
        !matches!(descriptor::read(self.news.as_fd(), &mut [0; 64]), Ok(0))
    }
}

impl AsFd for SizeWatch {
    /// Can be read when there is news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

impl Drop for SizeWatch {
    fn drop(&mut self) {
        /// How long it may take for what it does at once.
        const PATIENCE: Duration = Duration::from_secs(1);
        self.hold = None;
        let mut ended = [Interest::readable(self.child.pidfd())];
        if !descriptor::poll(&mut ended, Some(PATIENCE)).unwrap_or(false) {
            let _ = self.child.signal(signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// What the process does. Child-safe.
fn pass_on(terminal: BorrowedFd<'_>, news: BorrowedFd<'_>, held: BorrowedFd<'_>) -> io::Result<()> {
    // What else is open here must not stay so for its sake.
    descriptor::close_all_but(&mut [terminal, news, held].map(|fd| fd.as_raw_fd()))?;
    process::new_session()?;
    signal::reset_to_default(&[])?;
    let resizes = Signals::receive(&[signal::SIGWINCH])?;
    terminal::control(terminal)?;
    loop {
        descriptor::write(news, &[0])?;
        let mut ready = [Interest::readable(resizes.as_fd()), Interest::gone(held)];
        while !descriptor::poll(&mut ready, None)? {}
        if ready[1].is_ready() {
            // Else the terminal would be hung up now, and lose what nobody has read yet.
            return terminal::release(terminal);
        }
        while resizes.take()?.is_some() {}
    }
}
