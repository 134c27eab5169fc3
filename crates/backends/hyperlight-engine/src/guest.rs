//! The guest that this program has.

/// The guest's program, which is empty if there is none.
const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest.elf"));
/// Why there is none.
const MISSING: &str = include_str!(concat!(env!("OUT_DIR"), "/missing.txt"));

/// Whether the guest has no floating-point numbers, and wants no more of the processor than it must have.
pub(crate) const IS_PLAIN: bool = cfg!(feature = "plain-guest");

/// The guest's program, or why there is none.
pub(crate) fn image() -> Result<&'static [u8], &'static str> {
    if IMAGE.is_empty() { Err(MISSING) } else { Ok(IMAGE) }
}
