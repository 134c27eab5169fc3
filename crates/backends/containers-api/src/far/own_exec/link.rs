//! A client of such a place, as its agent sees it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use agentkernel_protocol::{CommandId, FromAgent, VERSION};
use agentkernel_sys::{process, socket};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::target::Order;

/// EIO: an engine's error has no number.
const NO_NUMBER: i32 = 5;

/// One client's connection.
pub struct Link {
    pub id: u32,
    socket: UnixStream,
}

impl Link {
    /// Greets a client.
    pub fn greet(id: u32, client: OwnedFd) -> io::Result<Self> {
        let socket = StdUnixStream::from(client);
        socket.set_nonblocking(true)?;
        let link = Self { id, socket: UnixStream::from_std(socket)? };
        link.say(FromAgent::Hello { version: VERSION, at: process::clock() }, None);
        Ok(link)
    }

    /// Says something. A client that leaves no room for so little does not listen, and is lost.
    pub fn say(&self, word: FromAgent, descriptor: Option<BorrowedFd<'_>>) {
        let frame = word.encode();
        let said = socket::send_now(self.socket.as_fd(), frame.as_bytes(), descriptor.as_slice());
        if said.is_err() {
            self.close();
        }
    }

    pub fn close(&self) {
        let _ = socket::close_for_all(self.socket.as_fd());
    }

    /// Hears something, with what comes along.
    pub async fn hear(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            self.socket.readable().await?;
            let mut receive = || socket::receive_now(self.socket.as_fd(), buffer);
            match self.socket.try_io(Interest::READABLE, &mut receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                heard => {
                    let (read, descriptors) = heard?;
                    return Ok((read, descriptors.into_iter().flatten().collect()));
                }
            }
        }
    }
}

/// What a client has said and not got yet, and what it may give orders to.
#[derive(Default)]
pub struct Client {
    pub waiting: VecDeque<OwnedFd>,
    pub commands: BTreeMap<CommandId, mpsc::Sender<Order>>,
}

impl Client {
    /// A command that has ended is no error.
    pub async fn tell(&self, command: CommandId, order: Order) {
        if let Some(orders) = self.commands.get(&command) {
            let _ = orders.send(order).await;
        }
    }
}

pub fn answer(link: &Link, command: CommandId, done: io::Result<()>) {
    let word = match done {
        Ok(()) => FromAgent::Done { command },
        Err(error) => {
            FromAgent::Failed { command, errno: error.raw_os_error().unwrap_or(NO_NUMBER) }
        }
    };
    link.say(word, None);
}
