//! Archives of ar's, which Debian's packages are: the members of one file, one after another.

use std::io::{self, Read, Seek, SeekFrom, Take};

const MAGIC: &[u8] = b"!<arch>\n";

/// A package has three.
const MOST: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    start: u64,
    size: u64,
}

impl Member {
    /// What it holds.
    pub fn open<R: Read + Seek>(&self, mut archive: R) -> io::Result<Take<R>> {
        archive.seek(SeekFrom::Start(self.start))?;
        Ok(archive.take(self.size))
    }
}

/// Whether a file that begins so is one.
pub fn is_archive(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// All members, none of them longer than the archive.
pub fn members(archive: &mut (impl Read + Seek)) -> io::Result<Vec<Member>> {
    let whole = archive.seek(SeekFrom::End(0))?;
    let mut at = MAGIC.len() as u64;
    let mut all = Vec::new();
    while at < whole {
        archive.seek(SeekFrom::Start(at))?;
        let mut header = [0; 60];
        archive.read_exact(&mut header).map_err(|_| wrong("it ends in the middle"))?;
        let text = |from: usize, to: usize| {
            let text = header.get(from..to).and_then(|part| std::str::from_utf8(part).ok());
            text.map(str::trim_end).ok_or_else(|| wrong("a member's name is no text"))
        };
        if !header.ends_with(b"`\n") || all.len() == MOST {
            return Err(wrong("it is no archive of ar's"));
        }
        let size = text(48, 58)?.parse().map_err(|_| wrong("a member's size is no number"))?;
        let start = at + header.len() as u64;
        if whole - start < size {
            return Err(wrong("it ends in the middle"));
        }
        all.push(Member { name: text(0, 16)?.trim_end_matches('/').to_owned(), start, size });
        at = start + size.next_multiple_of(2);
    }
    Ok(all)
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::scene::ar;

    #[test]
    fn members_are_found_and_what_is_cut_off_is_refused() {
        let archive = ar(&[("debian-binary", b"2.0\n"), ("odd", b"abc"), ("last", b"z")]);
        let all = members(&mut Cursor::new(&archive)).unwrap();
        let names: Vec<_> = all.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["debian-binary", "odd", "last"]);
        let mut text = String::new();
        all[1].open(Cursor::new(&archive)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        for length in [20, 60, 90, archive.len() - 2] {
            assert!(members(&mut Cursor::new(&archive[..length])).is_err(), "{length}");
        }
        let mut garbled = archive.clone();
        garbled[8 + 48] = b'-';
        assert!(members(&mut Cursor::new(&garbled)).is_err());
    }
}
