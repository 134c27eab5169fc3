//! A terminal on the caller's side.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::{Caller, Captured, NotPassed, Running, Verdict};

/// A program that runs on a terminal of its own, as its session's leader.
#[derive(Debug)]
pub struct TerminalSession {
    pub running: Running,
    /// The terminal's modes before the program started.
    pub initial: Modes,
    keyboard: File,
    /// Closed to make the one who reads the screen look away.
    watched: PipeWriter,
    /// Held so that the terminal's modes outlive the program.
    terminal: OwnedFd,
}

/// The settings of a terminal, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes(String);

impl TerminalSession {
    /// Starts `command` on a fresh terminal of `rows` by `columns`, with all three streams.
    pub fn start(
        command: &Command,
        caller: Caller,
        (rows, columns): (u16, u16),
    ) -> Result<Self, NotPassed> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let terminal = ioctl_tiocgptpeer(&controller, flags)?;
        // A login gives the terminal to its user.
        fchown(&terminal, Some(caller.uid()), None)?;
        tcsetwinsize(&terminal, size(rows, columns))?;
        let keyboard = File::from(controller);
        // It makes its standard input the controlling terminal, which the standard library offers
        // no safe way to do, and stays the same process.
        let mut command = caller.through(&["setsid", "--ctty"], command);
        command
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal.try_clone()?);
        let initial = modes_of(&terminal)?;
        let (unwatched, watched) = io::pipe()?;
        let screen = Screen { controller: keyboard.try_clone()?, unwatched };
        let running = Running::start_on(command, screen)?;
        Ok(Self { running, initial, keyboard, watched, terminal })
    }

    /// Types on the keyboard.
    pub fn type_in(&mut self, keys: &[u8]) -> Verdict {
        Ok(self.keyboard.write_all(keys)?)
    }

    /// Changes the size, as a window does that is dragged larger.
    pub fn resize(&self, rows: u16, columns: u16) -> Verdict {
        Ok(tcsetwinsize(&self.keyboard, size(rows, columns))?)
    }

    pub fn modes(&self) -> Result<Modes, NotPassed> {
        modes_of(&self.terminal)
    }

    /// Closes the terminal from its user's side, as when its window is closed.
    pub fn hang_up(self) -> Running {
        drop((self.watched, self.keyboard, self.terminal));
        self.running
    }

    /// Waits for the program's end; returns also the modes that it left the terminal in.
    pub fn finish(mut self) -> Result<(Captured, Modes), NotPassed> {
        self.running.wait()?;
        let modes = self.modes()?;
        // Only now does the other side see the end of the output.
        drop(self.terminal);
        Ok((self.running.finish()?, modes))
    }
}

/// What the program shows. It ends when nobody watches any more.
#[derive(Debug)]
struct Screen {
    controller: File,
    unwatched: PipeReader,
}

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut either = [
            PollFd::new(&self.controller, PollFlags::IN),
            PollFd::new(&self.unwatched, PollFlags::IN),
        ];
        poll(&mut either, None)?;
        match either[1].revents().is_empty() {
            true => self.controller.read(buffer),
            false => Ok(0),
        }
    }
}

fn modes_of(terminal: &OwnedFd) -> Result<Modes, NotPassed> {
    let modes = tcgetattr(terminal)?;
    Ok(Modes(format!("{modes:?}")))
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(script: &str) -> TerminalSession {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PATH", std::env::var_os("PATH").unwrap());
        TerminalSession::start(&command, Caller::Me, (33, 77)).unwrap()
    }

    #[test]
    fn it_is_a_controlling_terminal_with_a_size() {
        let session = session("stty size > /dev/tty; test -t 0 && test -t 1 && test -t 2");
        let (got, _) = session.finish().unwrap();
        got.exits(0).unwrap().prints("33 77\r\n").unwrap();
    }

    #[test]
    fn keys_resizing_and_left_over_modes_are_noticed() {
        let script = "trap 'stty size; stty -echo; exit 4' WINCH; read word; echo \"<$word>\"; \
                      sleep 20 & wait";
        let mut session = session(script);
        let before = session.modes().unwrap();
        session.type_in(b"hello\n").unwrap();
        session.running.until("<hello>").unwrap();
        session.resize(40, 100).unwrap();
        let (got, after) = session.finish().unwrap();
        got.exits(4).unwrap();
        assert!(got.text().ends_with("40 100\r\n"), "{got}");
        assert_ne!(before, after);
    }
}
