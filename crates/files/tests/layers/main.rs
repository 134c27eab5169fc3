//! What is seen of layers from the host: real overlays, and such as no overlay would make.
#![cfg(target_os = "linux")]

// `cfg(test)` is always set here. It is said for the linter, which else takes the functions that
// tests share for the product's.
#[cfg(test)]
mod apply;
#[cfg(test)]
mod diff;
#[cfg(test)]
mod export;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod patch;
#[cfg(test)]
mod scratch;
