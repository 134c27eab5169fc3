//! What is told of pulls, builds and ports while a run goes on, always on standard error.
//!
//! On a terminal a pull is one line that is drawn again and again; elsewhere it is a line at its
//! begin and one at its end. A build is a line for each step, and with `--verbose` all that its
//! steps say. Programs that asked for JSON are told nothing but what comes of it.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentkernel_core::{News, Progress};

use crate::output;

/// How long a drawn line stands at least.
const STANDS: Duration = Duration::from_millis(100);

/// The widest that a line is drawn: one that does not fit could not be drawn over.
const WIDTH: usize = 79;

/// Begins to tell what backends do, for people or, if `json`, not at all.
pub(crate) fn listen(json: bool, verbose: bool) {
    if json {
        return;
    }
    let state = Mutex::new(Pull::default());
    let draws = io::stderr().is_terminal();
    agentkernel_core::listen(Box::new(move |news| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = state.tell(news, Way { draws, verbose }, Instant::now());
        // If that fails there is nobody left to tell.
        let _ = io::stderr().write_all(text.as_bytes());
    }));
}

/// How it is told.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Whether a line can be drawn again.
    draws: bool,
    verbose: bool,
}

/// The pull that goes on, if one does.
#[derive(Debug, Default)]
struct Pull {
    begun: Option<Instant>,
    /// When its line was drawn, if it stands.
    drawn: Option<Instant>,
}

/// Goes to the begin of the line and empties it.
const CLEAR: &str = "\r\x1b[K";

impl Pull {
    /// What is to be written.
    fn tell(&mut self, news: News<'_>, way: Way, now: Instant) -> String {
        if let News::Pulling { image, progress } = news {
            return self.pulling(image, progress, way, now);
        }
        let line = match news {
            News::Pulling { .. } | News::Built { .. } => None,
            News::Pulled { image, newer } => {
                let image = output::shown(image);
                let took = self.begun.take().map_or(Duration::ZERO, |begun| now - begun);
                match newer {
                    Some(true) => Some(format!("{image} pulled in {:.1} s", took.as_secs_f64())),
                    Some(false) => Some(format!("{image} is up to date")),
                    // The error says it.
                    None => None,
                }
            }
            News::Building { step } => Some(format!("step {}", output::shown(step))),
            News::Output { line } => way.verbose.then(|| format!("  {}", output::shown(line))),
            News::Published { ports } => {
                let lines = ports.iter().map(|port| format!("port {port}"));
                Some(lines.collect::<Vec<_>>().join("\nagentkernel: "))
            }
            News::Note { text } => Some(format!("note: {}", output::shown(text))),
        };
        let clear = self.drawn.take().map_or("", |_| CLEAR);
        match line {
            Some(line) => format!("{clear}agentkernel: {line}\n"),
            None => clear.into(),
        }
    }

    fn pulling(&mut self, image: &str, progress: Progress, way: Way, now: Instant) -> String {
        let is_first = self.begun.is_none();
        self.begun.get_or_insert(now);
        if !way.draws {
            let line = || format!("agentkernel: pulling {}\n", output::shown(image));
            return is_first.then(line).unwrap_or_default();
        }
        if self.drawn.is_some_and(|drawn| now - drawn < STANDS) {
            return String::new();
        }
        self.drawn = Some(now);
        format!("{CLEAR}{}", line(image, progress))
    }
}

/// A line that fits, of a name that may not.
fn line(image: &str, progress: Progress) -> String {
    let Progress { layers, layers_done, bytes, bytes_done } = progress;
    let mut end = String::new();
    if layers > 0 {
        end = format!(": {layers_done} of {layers} layers");
    }
    if bytes > 0 {
        end += &format!(", {} of {}", megabytes(bytes_done), megabytes(bytes));
    }
    let begin = format!("agentkernel: pulling {}", output::shown(image));
    let room = WIDTH.saturating_sub(end.len());
    match begin.char_indices().nth(room) {
        None => begin + &end,
        Some(_) => {
            let cut: String = begin.chars().take(room.saturating_sub(3)).collect();
            format!("{cut}...{end}")
        }
    }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Way = Way { draws: false, verbose: false };
    const DRAWN: Way = Way { draws: true, verbose: false };

    fn pulling(layers_done: usize) -> News<'static> {
        let progress =
            Progress { layers: 3, layers_done, bytes: 45_600_000, bytes_done: 1_250_000 };
        News::Pulling { image: "python:3.13-slim", progress }
    }

    #[test]
    fn a_pull_is_two_lines_where_nothing_can_be_drawn() {
        let (mut pull, begun) = (Pull::default(), Instant::now());
        let mut told = String::new();
        for done in 0..3 {
            told += &pull.tell(pulling(done), PLAIN, begun);
        }
        let ended = News::Pulled { image: "python:3.13-slim", newer: Some(true) };
        told += &pull.tell(ended, PLAIN, begun + Duration::from_millis(3210));
        let expected = "agentkernel: pulling python:3.13-slim\n\
                        agentkernel: python:3.13-slim pulled in 3.2 s\n";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_drawn_line_goes_before_anything_else_is_said() {
        let (mut pull, now) = (Pull::default(), Instant::now());
        let first = pull.tell(pulling(1), DRAWN, now);
        let line = "agentkernel: pulling python:3.13-slim: 1 of 3 layers, 1.2 MB of 45.6 MB";
        assert_eq!(first, format!("{CLEAR}{line}"));
        assert_eq!(pull.tell(pulling(2), DRAWN, now + STANDS / 2), "");
        assert!(pull.tell(pulling(2), DRAWN, now + STANDS).contains("2 of 3"));
        let failed = News::Pulled { image: "python:3.13-slim", newer: None };
        assert_eq!(pull.tell(failed, DRAWN, now), CLEAR);
        assert_eq!(pull.tell(failed, DRAWN, now), "");
    }

    #[test]
    fn no_name_is_too_long_and_no_output_steers_the_terminal() {
        let progress = Progress { layers: 10, ..Progress::default() };
        let long = line(&"x".repeat(300), progress);
        assert_eq!(long.len(), WIDTH);
        assert!(long.ends_with("...: 0 of 10 layers"), "{long}");
        let output = News::Output { line: "\x1b[2J" };
        let mut pull = Pull::default();
        assert_eq!(pull.tell(output, PLAIN, Instant::now()), "");
        let verbose = Way { verbose: true, ..PLAIN };
        let told = pull.tell(output, verbose, Instant::now());
        assert_eq!(told, "agentkernel:   \\u{1b}[2J\n");
        let step = News::Building { step: "2/3: RUN make" };
        assert_eq!(pull.tell(step, PLAIN, Instant::now()), "agentkernel: step 2/3: RUN make\n");
    }
}
