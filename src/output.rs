//! Writing to people and to pipes. Nobody reading is no reason to fail, and never to panic.

use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::error::CommandError;

/// Writes `text` to standard output. A reader that has gone away has read enough.
pub(crate) fn text(text: &str) -> Result<(), CommandError> {
    bytes(Stream::Output, text.as_bytes()).map(drop)
}

/// One of the two streams that are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Errors,
}

/// Writes `bytes` and says whether there may be a reader for more.
pub(crate) fn bytes(stream: Stream, bytes: &[u8]) -> Result<bool, CommandError> {
    let (name, written) = match stream {
        Stream::Output => {
            let mut stdout = io::stdout().lock();
            ("standard output", stdout.write_all(bytes).and_then(|()| stdout.flush()))
        }
        Stream::Errors => ("standard error", io::stderr().write_all(bytes)),
    };
    match written {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(err) => Err(CommandError::new(
            format!("{name} can't be written: {err}"),
            "make room where it goes, or send it elsewhere",
        )),
    }
}

/// Standard output. What nobody reads any more goes nowhere.
pub(crate) struct Patient;

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match io::stdout().lock().write(bytes) {
            Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().lock().flush() {
            Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

/// Writes rows of cells to standard output, in columns.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> Result<(), CommandError> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut all = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        all += cells.collect::<Vec<_>>().join("   ").trim_end();
        all.push('\n');
    }
    text(&all)
}

/// `text` as it may be shown on a terminal, with nothing that steers it.
pub(crate) fn shown(text: &str) -> String {
    let show = |c: char| match c {
        '\'' | '"' | '\\' => c.to_string(),
        // Whatever is no letter, number or sign; also what changes the direction of writing.
        c => c.escape_debug().to_string(),
    };
    text.chars().map(show).collect()
}

/// Asks on the terminal, and says whether the answer is yes; `None` where nobody can be asked.
pub(crate) fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let _ = io::stderr().write_all(format!("{question} [y/N] ").as_bytes());
    let mut answer = String::new();
    let _ = io::stdin().read_line(&mut answer);
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Writes `line` and a line end to standard output.
pub(crate) fn line(line: &str) -> Result<(), CommandError> {
    text(&format!("{line}\n"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(shown("it's \"\u{e9}\" \\ 1"), "it's \"\u{e9}\" \\ 1");
        assert_eq!(shown("\x1b[2J\n\u{9b}\u{202e}"), r"\u{1b}[2J\n\u{9b}\u{202e}");
    }
}
