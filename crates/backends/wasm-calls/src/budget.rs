//! How much memory a module may have.

use wasmtime::{Error, ResourceLimiter, Result};

/// What a table's element takes.
const ELEMENT: u64 = size_of::<usize>() as u64;

/// Bytes that all memories and tables of an instance may have together. Growth beyond them is refused,
/// which the module is told as by any machine that has no more.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    /// What was granted last, in case that it can't be had.
    granted: u64,
    refused: bool,
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        Self { left: bytes, granted: 0, refused: false }
    }

    /// Whether anything was refused. A module that traps after that has run out of memory.
    pub fn has_refused(&self) -> bool {
        self.refused
    }

    fn grant(&mut self, bytes: u64) -> bool {
        let is_granted = bytes <= self.left;
        self.granted = if is_granted { bytes } else { 0 };
        self.left -= self.granted;
        self.refused |= !is_granted;
        is_granted
    }

    fn take_back(&mut self) {
        self.left += core::mem::take(&mut self.granted);
        self.refused = true;
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(&mut self, now: usize, then: usize, most: Option<usize>) -> Result<bool> {
        Ok(most.is_none_or(|most| then <= most) && self.grant(then.saturating_sub(now) as u64))
    }

    fn memory_grow_failed(&mut self, _: Error) -> Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, now: usize, then: usize, most: Option<usize>) -> Result<bool> {
        let bytes = (then.saturating_sub(now) as u64).saturating_mul(ELEMENT);
        Ok(most.is_none_or(|most| then <= most) && self.grant(bytes))
    }

    fn table_grow_failed(&mut self, _: Error) -> Result<()> {
        self.take_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_what_there_is() {
        let mut budget = Budget::new(1000);
        assert!(budget.memory_growing(0, 600, None).unwrap());
        assert!(budget.table_growing(0, 50, None).unwrap());
        assert!(!budget.has_refused());
        assert!(!budget.memory_growing(600, 601, None).unwrap());
        assert!(budget.has_refused());
    }

    #[test]
    fn what_a_module_itself_rules_out_is_no_want_of_memory() {
        let mut budget = Budget::new(1000);
        assert!(!budget.memory_growing(0, 600, Some(500)).unwrap());
        assert!(!budget.has_refused());
    }

    #[test]
    fn what_could_not_be_had_is_given_back() {
        let mut budget = Budget::new(1000);
        assert!(budget.memory_growing(0, 900, None).unwrap());
        budget.memory_grow_failed(Error::msg("no")).unwrap();
        assert!(budget.has_refused());
        assert!(budget.memory_growing(0, 1000, None).unwrap());
    }
}
