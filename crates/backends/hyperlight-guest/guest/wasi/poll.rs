//! Waiting for times and for input.

use agentkernel_hyperlight_guest::host;
use hyperlight_guest_bin::host_comm::call_host;
use wasmtime::{Caller, Linker, Result};

use crate::run::State;
use crate::wasi::memory::{Memory, next};
use crate::wasi::streams::Stream;
use crate::wasi::{Done, Errno, MODULE, Wasi, now, with};

const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;

/// What is waited for.
#[derive(Clone, Copy)]
enum Wanted {
    /// So many nanoseconds from when it was asked for.
    Time(u64),
    Input,
    /// A write waits by itself.
    Output,
}

impl Wanted {
    fn is_ready(self, shortest: u64, has_input: bool) -> bool {
        match self {
            Self::Time(time) => time <= shortest && !has_input || time == 0,
            Self::Input => has_input,
            Self::Output => true,
        }
    }

    /// WASI's number of the kind of event.
    fn kind(self) -> u8 {
        match self {
            Self::Time(_) => 0,
            Self::Input => 1,
            Self::Output => 2,
        }
    }
}

pub(super) fn add(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "poll_oneoff",
        |caller: Caller<'_, State>, wanted: u32, events: u32, count: u32, to: u32| {
            with(caller, |memory, wasi| {
                let found = poll(memory, wasi, wanted, events, count)?;
                memory.put_u32(to, found)
            })
        },
    )?;
    Ok(())
}

fn poll(
    memory: &mut Memory<'_>,
    wasi: &Wasi,
    wanted: u32,
    events: u32,
    count: u32,
) -> Done<u32> {
    if count == 0 {
        // It would be for ever.
        return Err(Errno::INVALID);
    }
    let (mut shortest, mut is_for_input) = (u64::MAX, false);
    for number in 0..count {
        match subscription(memory, wasi, at(wanted, number, SUBSCRIPTION)?)? {
            Wanted::Time(time) => shortest = shortest.min(time),
            Wanted::Input => is_for_input = true,
            Wanted::Output => shortest = 0,
        }
    }
    let has_input = call_host(host::WAIT, (shortest, is_for_input)).map_err(|_| Errno::IO)?;
    let mut found = 0;
    for number in 0..count {
        let subscription_at = at(wanted, number, SUBSCRIPTION)?;
        // A time that was given as such has come nearer by now.
        let one = subscription(memory, wasi, subscription_at)?;
        if one.is_ready(shortest, has_input) {
            let event = event(one, memory.u64(subscription_at)?);
            memory.put(at(events, found, EVENT)?, &event)?;
            found += 1;
        }
    }
    Ok(found)
}

fn at(start: u32, number: u32, size: u32) -> Done<u32> {
    next(start, number.checked_mul(size).ok_or(Errno::OVERFLOW)?)
}

fn subscription(memory: &Memory<'_>, wasi: &Wasi, from: u32) -> Done<Wanted> {
    let first = memory.u32(next(from, 16)?)?;
    match memory.get(next(from, 8)?, 1)? {
        [0] => {
            let (time, flags) = (memory.u64(next(from, 24)?)?, memory.u16(next(from, 40)?)?);
            time_left(first, time, flags).map(Wanted::Time)
        }
        [1] if wasi.stream(first)? == Stream::Input => Ok(Wanted::Input),
        [2] if wasi.stream(first)? != Stream::Input => Ok(Wanted::Output),
        [1 | 2] => Err(Errno::BAD_DESCRIPTOR),
        _ => Err(Errno::INVALID),
    }
}

fn time_left(clock: u32, time: u64, flags: u16) -> Done<u64> {
    const IS_ABSOLUTE: u16 = 1;
    if !matches!(clock, REALTIME | MONOTONIC) {
        return Err(Errno::INVALID);
    }
    Ok(if flags & IS_ABSOLUTE == 0 { time } else { time.saturating_sub(now(clock)?) })
}

fn event(of: Wanted, user: u64) -> [u8; EVENT as usize] {
    let mut event = [0; EVENT as usize];
    event[..8].copy_from_slice(&user.to_le_bytes());
    event[10] = of.kind();
    event[16] = u8::from(!matches!(of, Wanted::Time(_)));
    event
}
