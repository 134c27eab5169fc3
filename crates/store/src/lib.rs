//! What outlives a process: the records of sandboxes and the audit log.
#![forbid(unsafe_code)]
