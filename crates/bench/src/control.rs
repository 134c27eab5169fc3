//! What whoever waits for a measurement sees of it, and how they end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One for a whole run of the benchmark.
#[derive(Debug, Clone)]
pub struct Control {
    stop: Arc<AtomicBool>,
    bar: ProgressBar,
    patience: Duration,
}

impl Control {
    /// Shows progress on standard error, if that is a terminal. Ends when `stop` is set, and each
    /// part after `patience` if what it has is enough.
    pub fn new(stop: Arc<AtomicBool>, patience: Duration) -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { stop, bar, patience }
    }

    /// Without a word, and without an end before the end.
    #[cfg(test)]
    pub fn silent() -> Self {
        Self { stop: Arc::default(), bar: ProgressBar::hidden(), patience: Duration::MAX }
    }

    /// Begins a part that has so many steps.
    pub fn begin(&self, what: String, steps: u64) {
        self.bar.reset();
        self.bar.set_length(steps);
        self.bar.set_message(what);
    }

    pub fn advance(&self) {
        self.bar.inc(1);
    }

    /// How long one part may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether what is measured has to do.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Takes the bar away, for what is printed next.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
