//! Images of layers that nobody would think of.

use std::collections::BTreeMap;

use tar::EntryType;

use crate::archive::{Archive, Member, bytes};
use crate::layers::compare;
use crate::mounted;
use crate::store::Store;

/// Numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }
}

/// Few names, so that layers meet.
const NAMES: [&[u8]; 9] = [b"a", b"b", b"c", b"-", b"..x", b".h", b"\xff\xfe", b"a\nb", b"z z"];

const LENGTHS: [usize; 16] = [
    0, 1, 64, 1000, 2047, 2048, 2049, 3900, 4032, 4095, 4096, 4097, 8191, 65_536, 262_144, 300_001,
];

/// What a layer has at a path by now.
#[derive(Clone, Copy, PartialEq)]
enum There {
    Directory,
    Leaf,
}

struct Layer<'a> {
    numbers: &'a mut Numbers,
    archive: Archive,
    there: BTreeMap<Vec<u8>, There>,
}

impl Layer<'_> {
    fn path(&mut self) -> Vec<u8> {
        let depth = 1 + self.numbers.below(3);
        let names: Vec<&[u8]> = (0..depth).map(|_| self.numbers.one_of(&NAMES)).collect();
        names.join(&b'/')
    }

    /// Something is at a path now, and what it takes the place of is not.
    fn put(&mut self, path: &[u8], there: There) {
        for end in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
            self.put_one(&path[..end], There::Directory);
        }
        self.put_one(path, there);
    }

    fn put_one(&mut self, path: &[u8], there: There) {
        if there == There::Leaf {
            let beneath = [path, b"/"].concat();
            self.there.retain(|other, _| !other.starts_with(&beneath));
        }
        self.there.insert(path.into(), there);
    }

    fn leaf(&mut self) -> Option<Vec<u8>> {
        let leaves = self.there.iter().filter(|(_, there)| **there == There::Leaf);
        let leaves: Vec<Vec<u8>> = leaves.map(|(path, _)| path.clone()).collect();
        (!leaves.is_empty()).then(|| self.numbers.one_of(&leaves))
    }

    fn attributes(&mut self, mut member: Member) -> Member {
        let names = ["user.a", "user.bb", "trusted.c", "security.x", "user.overlay.x"];
        for _ in 0..self.numbers.below(4) / 2 * 2 {
            let (name, length) = (self.numbers.one_of(&names), self.numbers.below(120) as usize);
            member.attributes.retain(|(other, _)| other != name.as_bytes());
            member = member.attribute(name.as_bytes(), &bytes(length as u64, length));
        }
        member
    }

    fn member(&mut self, kind: EntryType) -> Member {
        let mode = self.numbers.below(0o10000) as u32;
        let seconds = self.numbers.below(4_000_000_000) as i64 - 1_000_000_000;
        let owner = (self.numbers.below(5) as u32 * 1000, self.numbers.below(70_000) as u32);
        let mtime = format!("{seconds}.{:09}", self.numbers.below(1_000_000_000));
        let member = Member::new(kind, mode).owner(owner.0, owner.1).mtime(&mtime);
        self.attributes(member)
    }

    fn step(&mut self) {
        let path = self.path();
        // What lies below a file is refused, and a link would lead elsewhere.
        let is_below = |(other, there): (&Vec<u8>, &There)| {
            *there == There::Leaf && path.starts_with(&[&other[..], b"/"].concat())
        };
        if self.there.iter().any(is_below) {
            return;
        }
        match self.numbers.below(20) {
            0..6 => {
                let member = self.member(EntryType::Regular);
                let length = self.numbers.one_of(&LENGTHS);
                let mut data = bytes(self.numbers.below(1000), length);
                if self.numbers.below(4) == 0 {
                    // Perhaps what will be a hole.
                    data[length / 3..].fill(0);
                }
                self.archive.add(&path, &member, &data);
                self.put(&path, There::Leaf);
            }
            6..9 => {
                let member = self.member(EntryType::Directory);
                self.archive.add(&path, &member, b"");
                self.put(&path, There::Directory);
            }
            9..11 => {
                let length = self.numbers.one_of(&[1, 100, 3000, 4000, 4095]);
                let target = vec![b'/'; length];
                let member = Member { target, ..self.member(EntryType::Symlink) };
                self.archive.add(&path, &member, b"");
                self.put(&path, There::Leaf);
            }
            11 => {
                let member = self.member(EntryType::Fifo);
                self.archive.add(&path, &member, b"");
                self.put(&path, There::Leaf);
            }
            12..15 => {
                // One that is beneath what it takes the place of would be gone.
                let beneath = |target: &Vec<u8>| target.starts_with(&[&path[..], b"/"].concat());
                let Some(target) = self.leaf().filter(|target| !beneath(target)) else { return };
                if target == path {
                    return;
                }
                let member = Member { target, ..Member::new(EntryType::Link, 0) };
                self.archive.add(&path, &member, b"");
                self.put(&path, There::Leaf);
            }
            15..18 => self.hide(&path),
            // Beneath what is a file by now it would be refused, too.
            _ if self.there.get(&path) == Some(&There::Leaf) => {}
            _ => {
                let opaque = [&path[..], b"/.wh..wh..opq"].concat();
                self.archive.add(&opaque, &Member::new(EntryType::Regular, 0), b"");
                self.put(&path, There::Directory);
            }
        }
    }

    fn hide(&mut self, path: &[u8]) {
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (parent, name) = path.split_at(at);
        let path = [parent, b".wh.", name].concat();
        self.archive.add(&path, &Member::new(EntryType::Regular, 0), b"");
        if at > 0 {
            self.put(&parent[..at - 1], There::Directory);
        }
    }
}

#[test]
fn layers_of_anything_are_what_overlayfs_shows_of_them() {
    if !mounted::can() {
        return;
    }
    // Those of a test run; any number by hand.
    let rounds = std::env::var("ROOT_IMAGE_ROUNDS").ok().and_then(|text| text.parse().ok());
    let store = Store::new();
    for seed in 1..=rounds.unwrap_or(12) {
        let mut numbers = Numbers(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        let layers = 1 + numbers.below(4);
        let archives: Vec<Vec<u8>> = (0..layers)
            .map(|_| {
                let numbers = &mut numbers;
                let mut layer = Layer { numbers, archive: Archive::new(), there: BTreeMap::new() };
                (0..60).for_each(|_| layer.step());
                layer.archive.bytes()
            })
            .collect();
        println!("seed {seed}");
        compare(&store, &store.keep(&archives));
    }
}
