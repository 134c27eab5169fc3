//! Whether a symbolic link stays within the project.

use std::path::{Component, Path};

/// Whether a link at `link`, leading to `to`, leads out of `target`. Both paths are absolute, in the
/// sandbox.
///
/// Only leading `..` are counted, and one that follows a name counts as leading out: what it leads to
/// depends on whether the name is a link itself.
pub(super) fn leads_out(link: &Path, to: &Path, target: &Path) -> bool {
    let (names, room) = if to.is_absolute() {
        match to.strip_prefix(target) {
            Ok(names) => (names, 0),
            Err(_) => return true,
        }
    } else {
        let below = link.strip_prefix(target).map_or(0, |below| below.components().count());
        (to, below.saturating_sub(1))
    };
    let ups = names.components().take_while(|part| *part == Component::ParentDir).count();
    let mut rest = names.components().skip(ups);
    ups > room || rest.any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_judged_by_where_it_is() {
        let out =
            |link: &str, to: &str| leads_out(Path::new(link), Path::new(to), "/work".as_ref());
        for (link, to) in [
            ("/work/a", "b"),
            ("/work/a", "./b/c"),
            ("/work/d/a", "../b"),
            ("/work/d/e/a", "../../b"),
            ("/work/a", "/work/b"),
            ("/work/a", "/work"),
        ] {
            assert!(!out(link, to), "{link} -> {to}");
        }
        for (link, to) in [
            ("/work/a", ".."),
            ("/work/a", "./../b"),
            ("/work/d/a", "../../b"),
            ("/work/a", "/"),
            ("/work/a", "/workshop"),
            ("/work/a", "/work/../etc"),
            // If `b` is a link to `.`, it leads out.
            ("/work/d/a", "b/../c"),
        ] {
            assert!(out(link, to), "{link} -> {to}");
        }
    }
}
