//! What a sandbox changed, as a patch.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices_deadline, group_diff_ops};

use crate::diff::{judge, relative};
use crate::directory::Directory;
use crate::error::{FilesError, While};
use crate::facts::{Facts, FileKind};
use crate::layer::Layer;
use crate::walk::{Next, Spot, Visitor, walk};

/// The largest file, in bytes, whose lines are compared.
const TEXT_MAX: u64 = 1 << 20;
/// How many lines that are the same surround a change.
const CONTEXT: usize = 3;
/// How long the search for the shortest difference may take for one file, and for all. A file can be
/// made such that it takes hours; then a longer difference has to do, which is as true.
const SEARCH_MAX: Duration = Duration::from_millis(500);
const SEARCH_TOTAL: Duration = Duration::from_secs(20);

/// Writes a unified difference in git's style, for `git apply` or `patch -p1` in the layer's target.
///
/// Paths are relative to the layer's target; where there are several layers, a line before each
/// says which it is. Files with zero bytes or of more than 1 MiB, and such as may not be read, are only
/// said to differ, which `git apply` refuses. Empty directories are not in it, and of modes only
/// whether a file is executable. Holds two files in memory at most.
pub fn patch(layers: &[Layer], mut out: impl Write) -> Result<(), FilesError> {
    for layer in layers {
        let headline = layers.len() > 1;
        let writer = PatchWriter { out: &mut out, search: SEARCH_TOTAL };
        layer.walk(layers, &mut Patcher { layer, headline, writer })?;
    }
    out.flush().map_err(FilesError::Output)
}

struct Patcher<'a> {
    layer: &'a Layer,
    /// Whether the layer's name is still to be written.
    headline: bool,
    writer: PatchWriter<'a>,
}

impl Visitor for Patcher<'_> {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError> {
        if judge(spot, self.layer)?.is_some() {
            self.write_change(spot)?;
        }
        Ok(Next::Enter)
    }
}

impl Patcher<'_> {
    fn write_change(&mut self, spot: &Spot<'_>) -> Result<(), FilesError> {
        if std::mem::take(&mut self.headline) {
            let target = quoted("", &self.layer.target);
            self.writer.write(format_args!("Layer {target}\n"))?;
        }
        let here = spot.here.filter(|here| !here.whiteout);
        if let (Some(there), Some(lower)) = (spot.there, spot.lower)
            && there.is_dir()
            && !here.is_some_and(|here| here.is_dir())
        {
            self.delete_tree(spot, lower)?;
        }
        let old = match (spot.there, spot.lower) {
            (Some(there), Some(lower)) => Side::read(lower, spot, &there)?,
            _ => None,
        };
        let new = match here {
            Some(here) => Side::read(spot.upper, spot, &here)?,
            None => None,
        };
        let path = relative(spot.path, self.layer);
        let special = [FileKind::Fifo, FileKind::Socket, FileKind::Device];
        if here.is_some_and(|here| special.contains(&here.kind)) {
            self.writer.note_special(path)?;
        }
        self.writer.write_file(path, old, new)
    }

    fn delete_tree(&mut self, spot: &Spot<'_>, lower: &Directory) -> Result<(), FilesError> {
        let top = lower.open(spot.name).doing("open the host's", spot.path)?;
        let mut deleter = Deleter { layer: self.layer, writer: &mut self.writer };
        walk(top, None, spot.path, &[], &mut deleter)
    }
}

/// Writes that all files of a tree of the host are deleted.
struct Deleter<'a, 'w> {
    layer: &'a Layer,
    writer: &'a mut PatchWriter<'w>,
}

impl Visitor for Deleter<'_, '_> {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError> {
        if let Some(here) = spot.here {
            let old = Side::read(spot.upper, spot, &here)?;
            self.writer.write_file(relative(spot.path, self.layer), old, None)?;
        }
        Ok(Next::Enter)
    }
}

/// A file before or after, as git sees it.
struct Side {
    mode: &'static str,
    /// Nothing where it can't be shown.
    text: Option<Vec<u8>>,
}

impl Side {
    /// Nothing for what git doesn't know, or what is gone by now.
    fn read(at: &Directory, spot: &Spot<'_>, facts: &Facts) -> Result<Option<Side>, FilesError> {
        let side = match facts.kind {
            FileKind::File => text_of(at, spot).map(|text| {
                let mode = if facts.mode & 0o100 == 0 { "100644" } else { "100755" };
                Side { mode, text }
            }),
            FileKind::Link => at
                .target(spot.name)
                .map(|to| Side { mode: "120000", text: Some(to.as_bytes().to_vec()) }),
            _ => return Ok(None),
        };
        match side {
            Ok(side) => Ok(Some(side)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("read", spot.path),
        }
    }

    fn is_link(&self) -> bool {
        self.mode == "120000"
    }
}

fn text_of(at: &Directory, spot: &Spot<'_>) -> io::Result<Option<Vec<u8>>> {
    let (file, facts) = match at.file(spot.name) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    if facts.size > TEXT_MAX {
        return Ok(None);
    }
    let mut text = Vec::new();
    // It may grow meanwhile.
    file.take(TEXT_MAX + 1).read_to_end(&mut text)?;
    Ok((text.len() as u64 <= TEXT_MAX && !text.contains(&0)).then_some(text))
}

struct PatchWriter<'a> {
    out: &'a mut dyn Write,
    /// What is left of [`SEARCH_TOTAL`].
    search: Duration,
}

impl PatchWriter<'_> {
    fn write(&mut self, text: std::fmt::Arguments<'_>) -> Result<(), FilesError> {
        self.out.write_fmt(text).map_err(FilesError::Output)
    }

    /// A line that programs which apply patches pass over.
    fn note_special(&mut self, path: &Path) -> Result<(), FilesError> {
        let path = quoted("b/", path);
        self.write(format_args!("Special file {path} is left out\n"))
    }

    fn write_file(
        &mut self,
        path: &Path,
        old: Option<Side>,
        new: Option<Side>,
    ) -> Result<(), FilesError> {
        match (old, new) {
            (None, None) => Ok(()),
            // A link that becomes a file is another file.
            (Some(old), Some(new)) if old.is_link() != new.is_link() => {
                self.write_one(path, Some(&old), None)?;
                self.write_one(path, None, Some(&new))
            }
            (old, new) => self.write_one(path, old.as_ref(), new.as_ref()),
        }
    }

    fn write_one(
        &mut self,
        path: &Path,
        old: Option<&Side>,
        new: Option<&Side>,
    ) -> Result<(), FilesError> {
        let modes = match (old, new) {
            (Some(old), None) => format!("deleted file mode {}\n", old.mode),
            (None, Some(new)) => format!("new file mode {}\n", new.mode),
            (Some(old), Some(new)) if old.mode != new.mode => {
                format!("old mode {}\nnew mode {}\n", old.mode, new.mode)
            }
            _ => String::new(),
        };
        let text = |side: Option<&Side>| match side {
            Some(side) => side.text.clone(),
            None => Some(Vec::new()),
        };
        let (before, after) = (text(old), text(new));
        let same = before.is_some() && before == after;
        if modes.is_empty() && same {
            return Ok(());
        }
        let (a, b) = (quoted("a/", path), quoted("b/", path));
        self.write(format_args!("diff --git {a} {b}\n{modes}"))?;
        if same {
            return Ok(());
        }
        let from = if old.is_some() { a } else { "/dev/null".into() };
        let to = if new.is_some() { b } else { "/dev/null".into() };
        match (before, after) {
            (Some(before), Some(after)) => {
                self.write(format_args!("--- {from}\n+++ {to}\n"))?;
                self.write_hunks(&before, &after)
            }
            _ => self.write(format_args!("Binary files {from} and {to} differ\n")),
        }
    }

    fn write_hunks(&mut self, before: &[u8], after: &[u8]) -> Result<(), FilesError> {
        let (old, new) = (lines(before), lines(after));
        let began = Instant::now();
        let deadline = began + self.search.min(SEARCH_MAX);
        let operations = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, Some(deadline));
        self.search = self.search.saturating_sub(began.elapsed());
        for hunk in group_diff_ops(operations, CONTEXT) {
            write_hunk(self.out, &hunk, &old, &new).map_err(FilesError::Output)?;
        }
        Ok(())
    }
}

fn write_hunk(
    out: &mut dyn Write,
    hunk: &[DiffOp],
    old: &[&[u8]],
    new: &[&[u8]],
) -> io::Result<()> {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { return Ok(()) };
    let old_range = range(first.old_range().start, last.old_range().end);
    let new_range = range(first.new_range().start, last.new_range().end);
    writeln!(out, "@@ -{old_range} +{new_range} @@")?;
    for operation in hunk {
        let (tag, old_lines, new_lines) = operation.as_tag_tuple();
        if tag == DiffTag::Equal {
            write_lines(out, b" ", &old[old_lines])?;
            continue;
        }
        write_lines(out, b"-", &old[old_lines])?;
        write_lines(out, b"+", &new[new_lines])?;
    }
    Ok(())
}

/// First line and number of lines. Where there is none, the line before counts.
fn range(start: usize, end: usize) -> String {
    let len = end - start;
    format!("{},{len}", if len == 0 { start } else { start + 1 })
}

fn write_lines(out: &mut dyn Write, sign: &[u8], lines: &[&[u8]]) -> io::Result<()> {
    for line in lines {
        out.write_all(sign)?;
        out.write_all(line)?;
        if !line.ends_with(b"\n") {
            out.write_all(b"\n\\ No newline at end of file\n")?;
        }
    }
    Ok(())
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').collect()
}

/// A path as git writes it: in quotes if there is anything in it that could be misread.
fn quoted(prefix: &str, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(plain) {
        return format!("{prefix}{}", path.display());
    }
    let mut text = format!("\"{prefix}");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}
