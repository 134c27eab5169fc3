//! The folder of a build as a tar archive, made while it is sent.
//!
//! The folder may change meanwhile, by somebody who wants what is outside of it: it is walked by
//! descriptors, no link is followed, and nothing is opened that could block.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentkernel_core::{News, tell};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use super::ignore::Ignore;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// The block of an archive, in bytes.
const BLOCK: u64 = 512;

/// What a folder must have, whatever it leaves out.
const ALWAYS: [&[u8]; 2] = [b"Dockerfile", b".dockerignore"];

/// Pieces of the archive, the last after all else. It holds a piece of a file, and the names of the
/// entries of one folder for each level.
pub struct Context {
    ignore: Ignore,
    /// The folders that are being walked, the innermost last.
    folders: Vec<Folder>,
    /// The file that is being sent, and how much of it is left.
    file: Option<(File, u64)>,
    /// None at the end.
    archive: Option<Builder<Vec<u8>>>,
}

struct Folder {
    descriptor: OwnedFd,
    /// Relative to the whole.
    path: PathBuf,
    /// The last is the next.
    names: Vec<Vec<u8>>,
}

impl Context {
    pub fn open(folder: &Path, ignore: Ignore) -> io::Result<Self> {
        let folder = Folder::open(rustix::fs::CWD, folder.as_os_str().as_bytes(), PathBuf::new())?;
        let archive = Some(Builder::new(Vec::new()));
        Ok(Self { ignore, folders: vec![folder], file: None, archive })
    }

    /// The next piece; none at the end.
    fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some((file, left)) = &mut self.file {
            let mut piece = vec![0; CHUNK.min(usize::try_from(*left).unwrap_or(CHUNK))];
            file.read_exact(&mut piece).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    io::Error::other("a file has become shorter while it was read")
                }
                _ => error,
            })?;
            *left -= piece.len() as u64;
            if *left == 0 {
                self.file = None;
            }
            return Ok(Some(piece));
        }
        let Some(archive) = &mut self.archive else { return Ok(None) };
        // What pads the file before is there already.
        while archive.get_ref().is_empty() {
            let Some(folder) = self.folders.last_mut() else {
                return self.archive.take().map(Builder::into_inner).transpose();
            };
            let Some(name) = folder.names.pop() else {
                self.folders.pop();
                continue;
            };
            let path = folder.path.join(OsStr::from_bytes(&name));
            let failed = |error: rustix::io::Errno| within(&path, error.into());
            let stat = match statat(&folder.descriptor, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) => stat,
                // It was there a moment ago.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let inner = path.as_os_str().as_bytes();
            let left_out = !ALWAYS.contains(&inner) && self.ignore.leaves_out(inner);
            if left_out && !(kind == FileType::Directory && self.ignore.may_take_below(inner)) {
                continue;
            }
            match kind {
                FileType::Directory => {
                    let inner = Folder::open(&folder.descriptor, &name, path.clone())
                        .map_err(|error| within(&path, error))?;
                    let stat = fstat(&inner.descriptor).map_err(failed)?;
                    self.folders.push(inner);
                    if !left_out {
                        let mut header = header(&stat, EntryType::Directory, 0);
                        archive.append_data(&mut header, &path, io::empty())?;
                    }
                }
                FileType::Symlink => {
                    let target = readlinkat(&folder.descriptor, name.as_slice(), Vec::new());
                    let target = target.map_err(failed)?;
                    let target = OsStr::from_bytes(target.as_bytes());
                    let mut header = header(&stat, EntryType::Symlink, 0);
                    archive.append_link(&mut header, &path, target)?;
                }
                FileType::RegularFile => {
                    let flags =
                        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let file = openat(&folder.descriptor, name.as_slice(), flags, Mode::empty());
                    let file = file.map_err(failed)?;
                    let stat = fstat(&file).map_err(failed)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                        return Err(within(&path, io::Error::other("it has become no file")));
                    }
                    let length = u64::try_from(stat.st_size).unwrap_or_default();
                    let mut header = header(&stat, EntryType::Regular, length);
                    archive.append_data(&mut header, &path, io::empty())?;
                    if length > 0 {
                        self.file = Some((file.into(), length));
                    }
                    let piece = mem::take(archive.get_mut());
                    let rest = (BLOCK - length % BLOCK) % BLOCK;
                    // It comes after the file.
                    archive.get_mut().resize(usize::try_from(rest).unwrap_or_default(), 0);
                    return Ok(Some(piece));
                }
                _ => tell(News::Note {
                    text: &format!(
                        "{} is no file, folder or link, and not part of the build",
                        path.display()
                    ),
                }),
            }
        }
        Ok(Some(mem::take(archive.get_mut())))
    }
}

impl Iterator for Context {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.piece();
        if piece.is_err() {
            // What was sent is no whole archive, and must not become one.
            (self.archive, self.file) = (None, None);
        }
        piece.transpose()
    }
}

impl Folder {
    fn open(parent: impl std::os::fd::AsFd, name: &[u8], path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = openat(parent, name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&descriptor)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name.to_bytes().to_vec());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self { descriptor, path, names })
    }
}

/// Everything belongs to root in a build, as Docker's own command line has it.
fn header(stat: &Stat, kind: EntryType, length: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(length);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header
}

fn within(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let pid = std::process::id();
            let path = std::env::temp_dir().join(format!("agentkernel-context-{name}-{pid}"));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, content: impl AsRef<[u8]>) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn entries(&self, ignore: &str) -> Vec<(String, Vec<u8>)> {
            let ignore = Ignore::parse(ignore.as_bytes()).unwrap();
            let pieces: io::Result<Vec<_>> = Context::open(&self.0, ignore).unwrap().collect();
            let archive = pieces.unwrap().concat();
            assert_eq!(archive.len() as u64 % BLOCK, 0);
            let mut archive = tar::Archive::new(archive.as_slice());
            let entries = archive.entries().unwrap().map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                if let Some(target) = entry.link_name_bytes() {
                    content = target.into_owned();
                }
                (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), content)
            });
            entries.collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn an_archive_holds_what_the_folder_does_and_follows_no_link() {
        let scratch = Scratch::new("whole");
        let long = format!("deep/{}/{}", "d".repeat(90), "f".repeat(90));
        let large = vec![7; CHUNK * 2 + 5];
        scratch.file("Dockerfile", "FROM x\n");
        scratch.file("empty", "");
        scratch.file("block", vec![1; 512]);
        scratch.file("large", &large);
        scratch.file(&long, "long");
        symlink("/etc", scratch.0.join("link")).unwrap();
        symlink("x".repeat(300), scratch.0.join("long-link")).unwrap();
        let _socket = UnixListener::bind(scratch.0.join("socket")).unwrap();
        let entries = scratch.entries("");
        let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        let folder = long.rsplit_once('/').unwrap().0;
        let expected =
            ["Dockerfile", "block", "deep", folder, &long, "empty", "large", "link", "long-link"];
        assert_eq!(names, expected);
        let content = |name: &str| &entries.iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!(content("large"), &large);
        assert_eq!(content(&long), b"long");
        assert_eq!(content("link"), b"/etc");
        assert_eq!(content("long-link").len(), 300);
    }

    #[test]
    fn what_is_left_out_is_not_there_but_for_what_every_build_needs() {
        let scratch = Scratch::new("ignored");
        for name in ["Dockerfile", ".dockerignore", "a/b", "a/keep", "c/d", "e"] {
            scratch.file(name, name);
        }
        let names = |ignore: &str| -> Vec<String> {
            scratch.entries(ignore).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("*"), [".dockerignore", "Dockerfile"]);
        assert_eq!(names("*\n!a/keep"), [".dockerignore", "Dockerfile", "a/keep"]);
        assert_eq!(names("a\n!a/keep\ne"), [".dockerignore", "Dockerfile", "a/keep", "c", "c/d"]);
    }
}
