//! The store and the audit log as the other rooms use them.

mod common;
mod processes;
mod records;
