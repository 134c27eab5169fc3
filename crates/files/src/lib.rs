//! A sandbox's files, seen from the host.
#![forbid(unsafe_code)]
