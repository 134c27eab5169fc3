//! What stands for a sandbox and its host.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::common::{Scratch, directory, is_root, write};
use agentkernel_files::{
    Agent, Errand, Inside, Refusal, Streams, TransferError, TransferOptions, Transferred, copy_in,
    copy_out, serve, tar_in, tar_out,
};
use agentkernel_protocol::Carry;

pub const FOLLOW: TransferOptions = TransferOptions { follow: true };
pub const AS_IT_IS: TransferOptions = TransferOptions { follow: false };

/// A folder that stands for a sandbox's root, and one of the host's.
pub struct Scene {
    pub root: PathBuf,
    pub host: PathBuf,
    pub descriptor: OwnedFd,
    pub owner: (u32, u32),
    _scratch: Scratch,
}

impl Scene {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let (root, host) = (scratch.folder("root"), scratch.folder("host"));
        fs::create_dir(root.join("dir")).unwrap();
        // What a way out of the sandbox would lead to.
        write(scratch.path("secret"), "secret");
        let owner = if is_root() { (23456, 34567) } else { caller() };
        Self { descriptor: directory(&root), root, host, owner, _scratch: scratch }
    }

    pub fn inside(&self) -> Inside<'_> {
        if is_far() {
            return Inside::Far(self);
        }
        Inside::Near { root: self.descriptor.as_fd(), owner: self.owner }
    }

    pub fn put(&self, source: &str, target: &str) -> Result<Transferred, TransferError> {
        self.put_with(source, target, AS_IT_IS)
    }

    pub fn put_with(
        &self,
        source: &str,
        target: &str,
        options: TransferOptions,
    ) -> Result<Transferred, TransferError> {
        copy_in(Path::new(&self.host_path(source)), &self.inside(), target.as_ref(), options)
    }

    pub fn get(&self, source: &str, target: &str) -> Result<Transferred, TransferError> {
        self.get_with(source, target, AS_IT_IS)
    }

    pub fn get_with(
        &self,
        source: &str,
        target: &str,
        options: TransferOptions,
    ) -> Result<Transferred, TransferError> {
        copy_out(&self.inside(), source.as_ref(), Path::new(&self.host_path(target)), options)
    }

    /// Not by `join`, since what the path ends in matters.
    pub fn host_path(&self, path: &str) -> String {
        format!("{}/{path}", self.host.display())
    }

    pub fn pack(&self, source: &str) -> (Vec<u8>, Transferred) {
        let mut archive = Vec::new();
        let done = tar_out(&self.inside(), source.as_ref(), AS_IT_IS, &mut archive).unwrap();
        (archive, done)
    }

    pub fn unpack(&self, target: &str, archive: &[u8]) -> Result<Transferred, TransferError> {
        tar_in(&self.inside(), target.as_ref(), archive)
    }
}

/// Whether nobody but an agent reaches the sandbox's files.
pub fn is_far() -> bool {
    std::env::var_os(FAR).is_some()
}

pub const FAR: &str = "TRANSFER_TESTS_FAR";

/// An agent, as a thread.
impl Agent for Scene {
    fn run(&self, errand: &Errand<'_>) -> io::Result<Streams> {
        let carry = Carry {
            way: errand.way,
            follow: errand.follow,
            uid: self.owner.0,
            gid: self.owner.1,
            path: CString::new(errand.path.as_os_str().as_bytes())?,
        };
        let (theirs, input) = io::pipe()?;
        let (output, to_output) = io::pipe()?;
        let (report, to_report) = io::pipe()?;
        let streams = [OwnedFd::from(theirs), to_output.into(), to_report.into()];
        let root = self.descriptor.try_clone()?;
        std::thread::spawn(move || serve(root.as_fd(), Some(root.as_fd()), &carry, streams));
        let (input, output) = (OwnedFd::from(input).into(), OwnedFd::from(output).into());
        Ok(Streams { input, output, report: OwnedFd::from(report).into() })
    }
}

pub fn caller() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

pub fn owner_of(path: impl AsRef<Path>) -> (u32, u32) {
    let data = fs::symlink_metadata(path).unwrap();
    (data.uid(), data.gid())
}

pub fn refused(done: &Transferred) -> Vec<(&str, Refusal)> {
    let mut refused: Vec<_> = done
        .refused
        .iter()
        .map(|refused| (refused.path.file_name().and_then(OsStr::to_str).unwrap(), refused.why))
        .collect();
    refused.sort_by_key(|refused| refused.0);
    refused
}

pub fn members(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let mut names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned())
        .collect();
    names.sort();
    names
}

/// An archive of members that the `tar` crate wouldn't write.
pub fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_mtime(1234);
        let file = kind.is_file();
        if !file {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_size(if file { content.len() as u64 } else { 0 });
        header.set_cksum();
        builder.append(&header, if file { content.as_bytes() } else { &[] }).unwrap();
    }
    builder.into_inner().unwrap()
}

pub const FILE: tar::EntryType = tar::EntryType::Regular;
pub const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
pub const LINK: tar::EntryType = tar::EntryType::Symlink;
pub const HARD_LINK: tar::EntryType = tar::EntryType::Link;
