//! A moment of fuzzing with every test run: the body of the fuzz target over archives with mistakes
//! in them. The seed is printed; `FUZZ_SEED` repeats it.
#![cfg(test)]
#![cfg(target_os = "linux")]

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use agentkernel_testkit::Scratch;
use tar::{Builder, EntryType, Header};

#[path = "../../../fuzz/src/layer.rs"]
mod fuzz;

const INPUTS: u32 = 2000;

/// What stands in all archives, and after those what only stands in some that are up to something.
const PATHS: [&str; 16] = [
    "a",
    "a/b",
    "a/b/c",
    "./",
    "d/",
    "d",
    "l",
    ".wh.a",
    "a/.wh.b",
    "a/.wh..wh..opq",
    "../x",
    "/",
    "a/../..",
    ".wh...",
    "l/x",
    "l/../../x",
];
const GOOD: usize = 10;

const KINDS: [u8; 16] = *b"00001223456gxLKS";

/// Random numbers from a seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let given = std::env::var("FUZZ_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or(now.as_nanos() as u64);
        println!("FUZZ_SEED={seed}");
        // A generator of this kind stays at zero.
        Self(seed.max(1))
    }

    /// A number below `end`, or 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    fn path(&mut self) -> &'static str {
        match self.below(16) {
            0 => PATHS[self.below(PATHS.len())],
            _ => PATHS[self.below(GOOD)],
        }
    }

    /// An archive of a few members that may have to do with each other.
    fn archive(&mut self) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for _ in 0..=self.below(8) {
            if self.below(16) == 0 {
                let records: [(&str, &[u8]); 5] = [
                    ("path", self.path().as_bytes()),
                    ("SCHILY.xattr.user.overlay.opaque", b"y"),
                    ("GNU.sparse.map", b"1,2,4,1"),
                    ("mtime", b"-1.5"),
                    ("size", b"3"),
                ];
                let some = self.below(records.len());
                builder.append_pax_extensions([records[some]]).unwrap();
            }
            let kind = match self.below(3) {
                0 => EntryType::Directory,
                _ => EntryType::new(KINDS[self.below(KINDS.len())]),
            };
            let has_data = matches!(kind.as_byte(), b'0' | b'7' | b'x' | b'L' | b'K' | b'S');
            let data = vec![b'x'; if has_data { self.below(600) } else { 0 }];
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(self.below(0o10000) as u32);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(self.below(1000) as u64);
            header.set_size(data.len() as u64);
            let target = self.path();
            let path = self.path();
            let old = header.as_old_mut();
            old.name[..path.len()].copy_from_slice(path.as_bytes());
            old.linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, &*data).unwrap();
        }
        let mut archive = builder.into_inner().unwrap();
        for _ in 0..self.below(3).saturating_sub(1) {
            self.spoil(&mut archive);
        }
        archive
    }

    fn spoil(&mut self, archive: &mut Vec<u8>) {
        let at = self.below(archive.len());
        match self.below(4) {
            0 => archive.truncate(at),
            1 if at < archive.len() => archive[at] ^= 1 << self.below(8),
            2 if at < archive.len() => archive[at] = b"0/.\0\xff7"[self.below(6)],
            3 => {
                let block = at / 512 * 512;
                let again = archive[block..].to_vec();
                archive.truncate(block);
                archive.extend(again.iter().take(512).chain(&again).copied().collect::<Vec<u8>>());
            }
            _ => {}
        }
    }
}

#[test]
fn archives_of_layers() {
    let mut random = Random::new();
    // In memory, if there is such a folder.
    let shared = PathBuf::from("/dev/shm");
    let parent = if shared.is_dir() { shared } else { std::env::temp_dir() };
    let mut unpacked = 0;
    for _ in 0..INPUTS {
        let scratch = Scratch::public_in(&parent).unwrap();
        unpacked += fuzz::layer(scratch.path(), &random.archive());
    }
    // Or it tried nothing but the ways to refuse.
    assert!(unpacked > INPUTS as usize / 4, "only {unpacked} members were unpacked");
    assert!(fs::metadata("/x").is_err());
}
