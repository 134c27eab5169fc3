//! Standard input, output and error: the host's, by calls of it.

use alloc::vec::Vec;

use agentkernel_hyperlight_guest::{MOST, host};
use hyperlight_guest_bin::host_comm::call_host;
use wasmtime::{Caller, Linker, Result};

use crate::run::State;
use crate::wasi::{Done, Errno, MODULE, with, without};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Input,
    Output,
    Errors,
}

impl Stream {
    fn number(self) -> u32 {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::Errors => 2,
        }
    }

    /// Of a terminal, or of nothing that is known.
    pub fn file_type(self) -> Done<u8> {
        const UNKNOWN: u8 = 0;
        const CHARACTER_DEVICE: u8 = 2;
        let is_terminal = call_host::<bool>(host::IS_TERMINAL, (self.number(),));
        Ok(if is_terminal.map_err(|_| Errno::IO)? { CHARACTER_DEVICE } else { UNKNOWN })
    }

    /// `fd_read` or `fd_write`.
    pub fn right(self) -> u64 {
        match self {
            Self::Input => 1 << 1,
            Self::Output | Self::Errors => 1 << 6,
        }
    }

    fn write(self, bytes: &[u8]) -> Done {
        if self == Self::Input {
            return Err(Errno::BAD_DESCRIPTOR);
        }
        bytes.chunks(MOST).try_for_each(|chunk| {
            match call_host::<u32>(host::WRITE, (self.number(), Vec::from(chunk))) {
                Ok(0) => Ok(()),
                Ok(errno) => Err(u16::try_from(errno).map_or(Errno::IO, Errno)),
                Err(_) => Err(Errno::IO),
            }
        })
    }
}

/// Writes this to standard output, and returns what to exit with.
pub(crate) fn print(text: &str) -> u8 {
    u8::from(Stream::Output.write(text.as_bytes()).is_err())
}

/// Reads what there is, at least a byte of it if `to` has room and there are more to come.
fn read(to: &mut [u8]) -> Done<u32> {
    if to.is_empty() {
        return Ok(0);
    }
    let most = to.len().min(MOST);
    let answer: Vec<u8> = call_host(host::READ, (most as u32,)).map_err(|_| Errno::IO)?;
    let (errno, bytes) = answer.split_first().ok_or(Errno::IO)?;
    if *errno != 0 {
        return Err(Errno((*errno).into()));
    }
    to.get_mut(..bytes.len()).ok_or(Errno::IO)?.copy_from_slice(bytes);
    Ok(bytes.len() as u32)
}

pub(super) fn add(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_read",
        |caller: Caller<'_, State>, descriptor: u32, pieces: u32, count: u32, to: u32| {
            with(caller, |memory, wasi| {
                let (at, len) = memory.first_piece(pieces, count)?;
                if wasi.stream(descriptor)? != Stream::Input {
                    return Err(Errno::BAD_DESCRIPTOR);
                }
                let read = read(memory.get_mut(at, len)?)?;
                memory.put_u32(to, read)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |caller: Caller<'_, State>, descriptor: u32, pieces: u32, count: u32, to: u32| {
            with(caller, |memory, wasi| {
                let (at, len) = memory.first_piece(pieces, count)?;
                wasi.stream(descriptor)?.write(memory.get(at, len)?)?;
                memory.put_u32(to, len)
            })
        },
    )?;
    linker.func_wrap(MODULE, "fd_close", |caller: Caller<'_, State>, descriptor: u32| {
        without(caller, |wasi| {
            wasi.stream(descriptor)?;
            wasi.streams[descriptor as usize] = None;
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "fd_renumber", |caller: Caller<'_, State>, from: u32, to: u32| {
        without(caller, |wasi| {
            let stream = wasi.stream(from)?;
            wasi.stream(to)?;
            if from != to {
                wasi.streams[from as usize] = None;
                wasi.streams[to as usize] = Some(stream);
            }
            Ok(())
        })
    })?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_get",
        |caller: Caller<'_, State>, descriptor: u32, to: u32| {
            with(caller, |memory, wasi| {
                let stream = wasi.stream(descriptor)?;
                let mut stat = [0; 24];
                stat[0] = stream.file_type()?;
                stat[8..16].copy_from_slice(&stream.right().to_le_bytes());
                stat[16..].copy_from_slice(&stream.right().to_le_bytes());
                memory.put(to, &stat)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_get",
        |caller: Caller<'_, State>, descriptor: u32, to: u32| {
            with(caller, |memory, wasi| {
                let mut stat = [0; 64];
                stat[16] = wasi.stream(descriptor)?.file_type()?;
                memory.put(to, &stat)
            })
        },
    )?;
    Ok(())
}
