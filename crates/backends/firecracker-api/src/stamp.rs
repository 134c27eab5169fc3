//! What tells a file from others, and from what it was before: without reading it, or by a digest.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The file's stamp. Nobody but root can set the time of a file's last change of any kind.
pub fn of(file: &Metadata) -> String {
    let about = [file.dev(), file.ino(), file.size()];
    let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    format!("{about:?} {times:?}")
}
