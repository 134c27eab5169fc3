//! What a pool holds.

use std::os::fd::BorrowedFd;

/// A booted place that has run nothing.
///
/// It is made by one thread, watched by another and handed to a third. The pool calls
/// [`destroy`](Self::destroy) for whatever it does not hand out, exactly once; it never just drops
/// a spare.
pub trait Spare: Send + 'static {
    /// What tells that it is no longer well: readable or hung up, since a healthy spare says
    /// nothing. It must be the same descriptor for as long as the pool has the spare.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Ends the place and removes all that it left. It may take its time; it runs beside whoever
    /// acquires.
    fn destroy(self);
}
