//! Directories that were made, and what they are to have in the end: what is put into one changes its time, and
//! it may become read-only.

use std::ffi::CString;

use crate::transfer::write::Settled;

/// Those that are not settled yet.
pub(super) enum Unsettled {
    /// Of an archive in any order.
    Any(Vec<(Vec<CString>, Settled)>),
    /// Of one in which whatever is in a directory comes before all that is not: they lie in each other, so that
    /// the path of the innermost and their depths are all that there is to remember.
    Nested { path: Vec<CString>, depths: Vec<(usize, Settled)> },
}

impl Unsettled {
    pub fn nested() -> Self {
        Self::Nested { path: Vec::new(), depths: Vec::new() }
    }

    /// Adds one. Those that are nested must be in each other.
    pub fn push(&mut self, made: Vec<CString>, settled: Settled) {
        match self {
            Self::Any(all) => all.push((made, settled)),
            Self::Nested { path, depths } => {
                depths.push((made.len(), settled));
                *path = made;
            }
        }
    }

    /// Takes the last one.
    pub fn pop(&mut self) -> Option<(Vec<CString>, Settled)> {
        match self {
            Self::Any(all) => all.pop(),
            Self::Nested { path, depths } => {
                let (depth, settled) = depths.pop()?;
                path.truncate(depth);
                Some((path.clone(), settled))
            }
        }
    }

    /// Takes the last of those that are nested if `next` does not lie in it.
    pub fn pop_unless(&mut self, next: &[CString]) -> Option<(Vec<CString>, Settled)> {
        let Self::Nested { path, depths } = self else { return None };
        let (depth, _) = depths.last()?;
        if next.starts_with(&path[..*depth]) { None } else { self.pop() }
    }
}
