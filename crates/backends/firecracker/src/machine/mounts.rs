//! What a machine's file systems are mounted by, and say if they can't be.

use std::ffi::CString;
use std::fs;
use std::io;

use agentkernel_sys::mount::{self, Detached, Restrictions};

pub const GUARDED: Restrictions = Restrictions::NO_SETUID.and(Restrictions::NO_DEVICES);

/// Where what is written is, before the root is.
pub const WRITTEN: &str = "/written";

/// What is shown in the root, and where.
pub type Trees = Vec<(String, Detached)>;

/// Mounts a file system that the kernel makes up.
pub fn mount_at(
    kind: &str,
    target: &str,
    restrictions: Restrictions,
    options: &str,
) -> io::Result<()> {
    fs::create_dir_all(target).map_err(failed(&format!("can't make {target}")))?;
    mount::mount(&c(kind)?, &c(target)?, restrictions, &c(options)?)
        .map_err(failed(&format!("can't mount {kind} at {target}")))
}

pub fn failed(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    let what = what.to_owned();
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

pub fn c(text: &str) -> io::Result<CString> {
    Ok(CString::new(text)?)
}
