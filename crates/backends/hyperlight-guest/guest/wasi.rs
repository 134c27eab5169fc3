//! WASI preview 1 for a program with standard streams, a clock and random numbers. It has no files: no
//! folder is there to begin with, and whoever wants one by a descriptor has none that is.

mod files;
mod memory;
mod poll;
mod streams;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use hyperlight_guest_bin::host_comm::call_host;
use wasmtime::{Caller, Linker, Result};

use agentkernel_hyperlight_guest::{MOST, host};
pub(crate) use streams::print;

use crate::run::State;
use crate::wasi::memory::Memory;
use crate::wasi::streams::Stream;

const MODULE: &str = "wasi_snapshot_preview1";

/// WASI's error numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub u16);

impl Errno {
    const NONE: i32 = 0;
    const BAD_DESCRIPTOR: Self = Self(8);
    const FAULT: Self = Self(21);
    const INVALID: Self = Self(28);
    const IO: Self = Self(29);
    const NOT_DIRECTORY: Self = Self(54);
    const NOT_SOCKET: Self = Self(57);
    const NOT_SUPPORTED: Self = Self(58);
    const OVERFLOW: Self = Self(61);
    const NOT_SEEKABLE: Self = Self(70);
}

type Done<T = ()> = core::result::Result<T, Errno>;

/// What a module's `proc_exit` ends it with.
#[derive(Debug)]
pub(crate) struct Exit(pub u32);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exited with status {}", self.0)
    }
}

impl core::error::Error for Exit {}

/// What a module has of the system.
pub(crate) struct Wasi {
    arguments: Vec<String>,
    variables: Vec<String>,
    /// By their descriptors: a closed one is never opened again.
    streams: [Option<Stream>; 3],
}

impl Wasi {
    pub fn new(arguments: Vec<String>, variables: Vec<String>) -> Self {
        let streams = [Some(Stream::Input), Some(Stream::Output), Some(Stream::Errors)];
        Self { arguments, variables, streams }
    }

    fn stream(&self, descriptor: u32) -> Done<Stream> {
        let found = self.streams.get(descriptor as usize).copied().flatten();
        found.ok_or(Errno::BAD_DESCRIPTOR)
    }
}

/// Does `action` with the caller's memory, and returns its error number.
fn with(
    mut caller: Caller<'_, State>,
    action: impl FnOnce(&mut Memory<'_>, &mut Wasi) -> Done,
) -> Result<i32> {
    let memory = caller.get_export("memory").and_then(|export| export.into_memory());
    let memory = memory.ok_or_else(|| wasmtime::format_err!("missing required memory export"))?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    Ok(number(action(&mut Memory(bytes), &mut state.wasi)))
}

/// The same for what needs no memory.
fn without(mut caller: Caller<'_, State>, action: impl FnOnce(&mut Wasi) -> Done) -> i32 {
    number(action(&mut caller.data_mut().wasi))
}

fn number(done: Done) -> i32 {
    done.map_or_else(|Errno(number)| number.into(), |()| Errno::NONE)
}

/// Lets a module import all of it.
pub(crate) fn add(linker: &mut Linker<State>) -> Result<()> {
    streams::add(linker)?;
    poll::add(linker)?;
    files::add(linker)?;
    linker.func_wrap(MODULE, "args_sizes_get", |caller: Caller<'_, State>, count, size| {
        with(caller, |memory, wasi| memory.put_sizes(&wasi.arguments, count, size))
    })?;
    linker.func_wrap(MODULE, "args_get", |caller: Caller<'_, State>, list, bytes| {
        with(caller, |memory, wasi| memory.put_texts(&wasi.arguments, list, bytes))
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |caller: Caller<'_, State>, count, size| {
        with(caller, |memory, wasi| memory.put_sizes(&wasi.variables, count, size))
    })?;
    linker.func_wrap(MODULE, "environ_get", |caller: Caller<'_, State>, list, bytes| {
        with(caller, |memory, wasi| memory.put_texts(&wasi.variables, list, bytes))
    })?;
    linker.func_wrap(MODULE, "clock_res_get", |caller: Caller<'_, State>, clock: u32, to: u32| {
        with(caller, |memory, _| {
            resolution(clock)?;
            memory.put_u64(to, 1)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |caller: Caller<'_, State>, clock: u32, _precision: u64, to: u32| {
            with(caller, |memory, _| memory.put_u64(to, now(clock)?))
        },
    )?;
    linker.func_wrap(MODULE, "random_get", |caller: Caller<'_, State>, to: u32, len: u32| {
        with(caller, |memory, _| memory.get_mut(to, len)?.chunks_mut(MOST).try_for_each(random))
    })?;
    linker.func_wrap(MODULE, "proc_exit", |status: u32| -> Result<()> { Err(Exit(status).into()) })?;
    linker.func_wrap(MODULE, "proc_raise", |_signal: u32| i32::from(Errno::NOT_SUPPORTED.0))?;
    linker.func_wrap(MODULE, "sched_yield", || Errno::NONE)?;
    Ok(())
}

/// Whether there is such a clock: those of processes and threads are not.
fn resolution(clock: u32) -> Done {
    match clock {
        0 | 1 => Ok(()),
        2 | 3 => Err(Errno::BAD_DESCRIPTOR),
        _ => Err(Errno::INVALID),
    }
}

fn now(clock: u32) -> Done<u64> {
    resolution(clock)?;
    call_host(host::CLOCK, (clock,)).map_err(|_| Errno::IO)
}

fn random(to: &mut [u8]) -> Done {
    let bytes: Vec<u8> = call_host(host::RANDOM, (to.len() as u32,)).map_err(|_| Errno::IO)?;
    if bytes.len() != to.len() {
        return Err(Errno::IO);
    }
    to.copy_from_slice(&bytes);
    Ok(())
}
