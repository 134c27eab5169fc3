//! The store and the audit log as the other rooms use them.
#![cfg(test)]

mod audit;
mod bad_files;
mod cards;
mod common;
mod folders;
mod processes;
mod records;
