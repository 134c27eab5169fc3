//! Where the time of a run goes.

use crate::result::Case;

/// Where the time of a run goes: means over the middle half of the runs, by how long they took as
/// a whole. Medians of parts do not add up, and a mean of all runs is one of outliers.
pub struct PhaseTimes {
    pub parts: [f64; Self::NAMES.len()],
    pub total: f64,
    /// In how many runs the parts add up to the whole, and of how many that have both.
    pub added_up: u64,
    pub runs: u64,
}

impl PhaseTimes {
    pub const NAMES: [&str; 5] = ["process", "boot", "ready", "exec", "shutdown"];

    pub fn of(case: &Case) -> Option<Self> {
        let series = Self::NAMES.map(|name| case.series.get(name));
        let mut runs: Vec<Phases> = Vec::new();
        for (index, total) in case.series.get("total")?.iter().enumerate() {
            let parts = series.map(|part| *part?.get(index)?);
            // A backend may have nothing to do in a phase; a run without any of them failed.
            if let (Some(total), true) = (total, parts.iter().any(Option::is_some)) {
                let parts = parts.map(|part| part.unwrap_or(0) as f64);
                runs.push(Phases { total: *total as f64, parts });
            }
        }
        let added_up = runs.iter().filter(|run| run.adds_up()).count() as u64;
        runs.sort_by(|one, other| one.total.total_cmp(&other.total));
        let count = runs.len();
        let middle = runs.get(count / 4..count - count / 4).filter(|runs| !runs.is_empty())?;
        let mean =
            |of: &dyn Fn(&Phases) -> f64| middle.iter().map(of).sum::<f64>() / middle.len() as f64;
        let parts = std::array::from_fn(|index| mean(&|run| run.parts[index]));
        Some(Self { parts, total: mean(&|run| run.total), added_up, runs: count as u64 })
    }

    /// The time until a command can be started, once the process is there.
    pub fn instance_ready(&self) -> f64 {
        self.parts[1] + self.parts[2]
    }
}

/// One run, in nanoseconds.
struct Phases {
    total: f64,
    parts: [f64; PhaseTimes::NAMES.len()],
}

impl Phases {
    fn adds_up(&self) -> bool {
        (self.parts.iter().sum::<f64>() - self.total).abs() <= self.total * 0.001
    }
}
