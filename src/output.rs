//! Writing to people and to pipes. Nobody reading is no reason to fail, and never to panic.

use std::io::{self, ErrorKind, Write};

use crate::error::CommandError;

/// Writes `text` to standard output. A reader that has gone away has read enough.
pub(crate) fn text(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(err) if err.kind() != ErrorKind::BrokenPipe => Err(CommandError::new(
            format!("standard output can't be written: {err}"),
            "make room where it goes, or send it elsewhere",
        )),
        _ => Ok(()),
    }
}

/// Writes `line` and a line end to standard output.
pub(crate) fn line(line: &str) -> Result<(), CommandError> {
    text(&format!("{line}\n"))
}

/// Lines of words as a table with columns.
pub(crate) fn table(rows: &[String]) -> String {
    let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.split(' ').collect()).collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.len()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<&str>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    cells.iter().map(line).collect()
}

/// Writes `lines` and a line end to standard error, in one piece if the system lets it. If that
/// fails there is nobody left to tell.
pub(crate) fn note(lines: &str) {
    let _ = io::stderr().write_all(format!("{lines}\n").as_bytes());
}

/// Says on standard error why a verb came to nothing, for people or as JSON, and returns the exit
/// status that stands for it.
pub(crate) fn error(error: CommandError, json: bool) -> u8 {
    let exit_code = error.exit_code;
    if json {
        note(&error.report().to_json());
    } else {
        note(&format!("error: {}\nhint: {}", error.message, error.hint));
    }
    exit_code
}
