//! Opening what its owner has closed to itself.
//!
//! An ordinary user's store has files of an image that nobody may read, such as `/etc/gshadow` or a
//! `sudo` of some distributions, and all of them are the caller's own. To change their permissions
//! for a moment would show in sandboxes that stand on the same layer, and for good if this is killed.
//! But root of a user namespace may read what belongs to its own users, so a process in one opens
//! them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use agentkernel_sys::descriptor::close_all_but;
use agentkernel_sys::identity::{Range, effective, map_ids};
use agentkernel_sys::process::{Child, Fork, Namespaces, die_with_parent, exit_now, fork};
use agentkernel_sys::socket;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// The longest path and the NUL behind it.
const LONGEST: usize = 4096;

/// What a question begins with: the layer, the flags, and the length of the path.
const HEAD: usize = 8;

/// Opens what is at a path beneath a root, without following a link. Child-safe.
pub(crate) fn open_beneath(root: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

/// A process that opens files, for as long as this lives.
pub(crate) struct Opener {
    /// None once it is over.
    socket: Option<OwnedFd>,
    child: Child,
}

impl Opener {
    /// Starts one that knows these trees.
    pub fn start(roots: &[OwnedFd]) -> io::Result<Self> {
        let (ours, its) = socket::pair()?;
        let (uid, gid) = effective();
        let mut keep: Vec<_> = roots.iter().map(AsRawFd::as_raw_fd).collect();
        keep.push(its.as_raw_fd());
        match fork(Namespaces::USER, None)? {
            Fork::Parent(child) => Ok(Self { socket: Some(ours), child }),
            Fork::Child => {
                let range = |id| Range { inside: 0, outside: id, count: 1 };
                let ready = die_with_parent()
                    .and_then(|()| close_all_but(&mut keep))
                    .and_then(|()| map_ids(c"self", range(uid), range(gid), true));
                let served = ready.and_then(|()| serve(its.as_fd(), roots));
                exit_now(i32::from(served.is_err()))
            }
        }
    }

    /// Opens what is at a path of a layer's tree.
    pub fn open(&mut self, layer: u16, path: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
        // Where there can be no such namespace nobody may read it.
        let failed = || io::Error::from(io::ErrorKind::PermissionDenied);
        let socket = self.socket.as_ref().ok_or_else(failed)?;
        let path = path.to_bytes_with_nul();
        if path.len() > LONGEST {
            return Err(Errno::NAMETOOLONG.into());
        }
        let mut question = Vec::with_capacity(HEAD + path.len());
        question.extend(layer.to_le_bytes());
        question.extend(flags.bits().to_le_bytes());
        question.extend((path.len() as u16).to_le_bytes());
        question.extend(path);
        socket::send(socket.as_fd(), &question, &[]).map_err(|_| failed())?;
        let mut errno = [0; 4];
        match socket::receive(socket.as_fd(), &mut errno) {
            Ok((4, [Some(opened), ..])) => Ok(opened),
            Ok((4, _)) => Err(io::Error::from_raw_os_error(i32::from_le_bytes(errno))),
            _ => Err(failed()),
        }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.socket = None;
        // How it ended means nothing, but it must not stay as a zombie.
        let _ = self.child.wait();
    }
}

/// Answers until nobody asks any more. Child-safe.
fn serve(socket: BorrowedFd<'_>, roots: &[OwnedFd]) -> io::Result<()> {
    let mut head = [0; HEAD];
    let mut path = [0; LONGEST];
    while fill(socket, &mut head)? {
        let [layer @ .., _, _, _, _, _, _] = head;
        let [_, _, flags @ .., _, _] = head;
        let [.., low, high] = head;
        let path = path.get_mut(..u16::from_le_bytes([low, high]).into());
        let path = path.ok_or(io::ErrorKind::InvalidData)?;
        if !fill(socket, path)? {
            break;
        }
        let root = roots.get(usize::from(u16::from_le_bytes(layer)));
        let flags = OFlags::from_bits_retain(u32::from_le_bytes(flags));
        let opened = match (CStr::from_bytes_with_nul(path), root) {
            (Ok(path), Some(root)) => open_beneath(root, path, flags),
            _ => Err(Errno::INVAL),
        };
        match opened {
            Ok(opened) => socket::send(socket, &[0; 4], &[opened.as_fd()])?,
            Err(errno) => socket::send(socket, &errno.raw_os_error().to_le_bytes(), &[])?,
        }
    }
    Ok(())
}

/// Receives as much as there is room for; false at the end. Child-safe.
fn fill(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < bytes.len() {
        match socket::receive(socket, &mut bytes[filled..])?.0 {
            0 => return Ok(false),
            count => filled += count,
        }
    }
    Ok(true)
}
