//! The functions for files and sockets. There are none, so each has an answer that is true: a descriptor is
//! of a stream or of nothing.

use wasmtime::{Caller, Linker, Result};

use crate::run::State;
use crate::wasi::streams::Stream;
use crate::wasi::{Done, Errno, MODULE, Wasi, without};

/// What `descriptor` is not: a file.
fn no_file(wasi: &Wasi, descriptor: u32) -> Done {
    wasi.stream(descriptor)?;
    Err(Errno::BAD_DESCRIPTOR)
}

fn no_position(wasi: &Wasi, descriptor: u32) -> Done {
    wasi.stream(descriptor)?;
    Err(Errno::NOT_SEEKABLE)
}

fn no_socket(wasi: &Wasi, descriptor: u32) -> Done {
    wasi.stream(descriptor)?;
    Err(Errno::NOT_SOCKET)
}

/// A function with these parameters behind the descriptor, all of which are ignored.
macro_rules! answer {
    ($linker:ident, $name:literal, ($($of:ty),*), $answer:expr) => {
        $linker.func_wrap(
            MODULE,
            $name,
            |caller: Caller<'_, State>, descriptor: u32 $(, _: $of)*| {
                without(caller, |wasi| $answer(wasi, descriptor))
            },
        )?
    };
}

pub(super) fn add(linker: &mut Linker<State>) -> Result<()> {
    answer!(linker, "fd_advise", (u64, u64, u32), no_file);
    answer!(linker, "fd_allocate", (u64, u64), no_file);
    answer!(linker, "fd_datasync", (), no_file);
    answer!(linker, "fd_fdstat_set_flags", (u32), no_file);
    answer!(linker, "fd_fdstat_set_rights", (u64, u64), |wasi: &Wasi, descriptor| {
        wasi.stream(descriptor).and(Err(Errno::NOT_SUPPORTED))
    });
    answer!(linker, "fd_filestat_set_size", (u64), no_file);
    answer!(linker, "fd_filestat_set_times", (u64, u64, u32), no_file);
    answer!(linker, "fd_pread", (u32, u32, u64, u32), |wasi: &Wasi, descriptor| {
        match wasi.stream(descriptor)? {
            Stream::Input => Err(Errno::NOT_SEEKABLE),
            _ => Err(Errno::BAD_DESCRIPTOR),
        }
    });
    answer!(linker, "fd_prestat_get", (u32), no_file);
    answer!(linker, "fd_prestat_dir_name", (u32, u32), |wasi: &Wasi, descriptor| {
        wasi.stream(descriptor).and(Err(Errno::NOT_DIRECTORY))
    });
    answer!(linker, "fd_pwrite", (u32, u32, u64, u32), |wasi: &Wasi, descriptor| {
        match wasi.stream(descriptor)? {
            Stream::Input => Err(Errno::BAD_DESCRIPTOR),
            _ => Err(Errno::NOT_SEEKABLE),
        }
    });
    answer!(linker, "fd_readdir", (u32, u32, u64, u32), no_file);
    answer!(linker, "fd_seek", (i64, u32, u32), no_position);
    answer!(linker, "fd_sync", (), no_file);
    answer!(linker, "fd_tell", (u32), no_position);
    answer!(linker, "path_create_directory", (u32, u32), no_file);
    answer!(linker, "path_filestat_get", (u32, u32, u32, u32), no_file);
    answer!(linker, "path_filestat_set_times", (u32, u32, u32, u64, u64, u32), no_file);
    answer!(linker, "path_link", (u32, u32, u32, u32, u32, u32), no_file);
    answer!(linker, "path_open", (u32, u32, u32, u32, u64, u64, u32, u32), no_file);
    answer!(linker, "path_readlink", (u32, u32, u32, u32, u32), no_file);
    answer!(linker, "path_remove_directory", (u32, u32), no_file);
    answer!(linker, "path_rename", (u32, u32, u32, u32, u32), no_file);
    // The descriptor is the third of its parameters.
    linker.func_wrap(
        MODULE,
        "path_symlink",
        |caller: Caller<'_, State>, _: u32, _: u32, descriptor: u32, _: u32, _: u32| {
            without(caller, |wasi| no_file(wasi, descriptor))
        },
    )?;
    answer!(linker, "path_unlink_file", (u32, u32), no_file);
    answer!(linker, "sock_accept", (u32, u32), no_socket);
    answer!(linker, "sock_recv", (u32, u32, u32, u32, u32), no_socket);
    answer!(linker, "sock_send", (u32, u32, u32, u32), no_socket);
    answer!(linker, "sock_shutdown", (u32), no_socket);
    Ok(())
}
