//! What is known of a tree's directories while it is filled.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::member::Attributes;

/// How much memory they may take, in bytes, about.
const MOST_BYTES: usize = 256 << 20;

/// What one takes besides its path and its attributes, in bytes, about.
const EACH: usize = 160;

/// All of the tree's directories, with what they are to have in the end: what is put into one changes
/// its time, and it may become closed. With them, what hides things below.
#[derive(Debug, Default)]
pub(super) struct Directories {
    all: BTreeMap<Vec<u8>, Attributes>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    /// What was ever added, in bytes: what is removed frees little of the work that it was.
    bytes: usize,
}

impl Directories {
    pub fn has(&self, path: &[u8]) -> bool {
        self.all.contains_key(path)
    }

    pub fn set(&mut self, path: Vec<u8>, attributes: Attributes) {
        let extended = attributes.extended.iter();
        let extended: usize = extended.map(|(name, value)| name.count_bytes() + value.len()).sum();
        self.bytes += EACH + path.len() + extended;
        self.all.insert(path, attributes);
    }

    pub fn is_whiteout(&self, path: &[u8]) -> bool {
        self.whiteouts.contains(path)
    }

    pub fn add_whiteout(&mut self, path: &[u8]) {
        self.bytes += EACH + path.len();
        self.whiteouts.insert(path.to_vec());
    }

    pub fn add_opaque(&mut self, path: &[u8]) {
        self.bytes += EACH + path.len();
        self.opaque.insert(path.to_vec());
    }

    pub fn is_too_much(&self) -> bool {
        self.bytes > MOST_BYTES
    }

    /// Forgets what was at a path, and beneath it.
    pub fn remove(&mut self, path: &[u8]) {
        self.whiteouts.remove(path);
        if self.all.remove(path).is_none() {
            return;
        }
        self.opaque.remove(path);
        for beneath in keys_beneath(self.all.keys_from(path), path) {
            self.all.remove(&beneath);
        }
        for set in [&mut self.whiteouts, &mut self.opaque] {
            for beneath in keys_beneath(set.keys_from(path), path) {
                set.remove(&beneath);
            }
        }
    }

    /// Those whiteouts whose directory, or one above it, hides all that is below anyway.
    pub fn useless_whiteouts(&self) -> Vec<Vec<u8>> {
        let beneath = |path: &Vec<u8>| keys_beneath(self.whiteouts.keys_from(path), path);
        let useless: BTreeSet<Vec<u8>> = self.opaque.iter().flat_map(beneath).collect();
        useless.into_iter().collect()
    }

    /// All directories, each after those that are in it.
    pub fn take(&mut self) -> impl Iterator<Item = (Vec<u8>, Attributes)> + use<> {
        std::mem::take(&mut self.all).into_iter().rev()
    }
}

/// The paths in a map or a set that may be beneath one.
trait KeysFrom {
    fn keys_from<'a>(&'a self, path: &[u8]) -> Box<dyn Iterator<Item = &'a Vec<u8>> + 'a>;
}

impl<V> KeysFrom for BTreeMap<Vec<u8>, V> {
    fn keys_from<'a>(&'a self, path: &[u8]) -> Box<dyn Iterator<Item = &'a Vec<u8>> + 'a> {
        let range = self.range((Bound::Included(start(path)), Bound::Unbounded));
        Box::new(range.map(|(key, _)| key))
    }
}

impl KeysFrom for BTreeSet<Vec<u8>> {
    fn keys_from<'a>(&'a self, path: &[u8]) -> Box<dyn Iterator<Item = &'a Vec<u8>> + 'a> {
        Box::new(self.range((Bound::Included(start(path)), Bound::Unbounded)))
    }
}

/// What all paths beneath one begin with.
fn start(path: &[u8]) -> Vec<u8> {
    match path {
        [] => Vec::new(),
        path => [path, b"/"].concat(),
    }
}

fn keys_beneath<'a>(from: impl Iterator<Item = &'a Vec<u8>>, path: &[u8]) -> Vec<Vec<u8>> {
    let start = start(path);
    from.take_while(|key| key.starts_with(&start)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_much_memory_is_noticed_even_if_it_comes_again_and_again() {
        let mut directories = Directories::default();
        let large = (c"user.x".into(), vec![0; 1 << 20]);
        let attributes = Attributes { extended: vec![large], ..Attributes::implied() };
        let count = (0..1000).take_while(|_| {
            directories.set(b"a".to_vec(), attributes.clone());
            !directories.is_too_much()
        });
        assert!((200..256).contains(&count.count()));
    }

    #[test]
    fn what_is_beneath_goes_with_a_directory_and_not_what_is_beside_it() {
        let mut directories = Directories::default();
        for path in ["a", "a/b", "a/b/c", "a-b", "b"] {
            directories.set(path.into(), Attributes::implied());
        }
        directories.add_whiteout(b"a/b/x");
        directories.add_whiteout(b"a-b/x");
        directories.add_opaque(b"a/b");
        directories.remove(b"a");
        let left: Vec<_> = directories.all.keys().map(|path| path.as_slice()).collect();
        assert_eq!(left, [&b"a-b"[..], b"b"]);
        assert!(directories.is_whiteout(b"a-b/x") && !directories.is_whiteout(b"a/b/x"));
        directories.add_opaque(b"a-b");
        assert_eq!(directories.useless_whiteouts(), [b"a-b/x"]);
    }
}
