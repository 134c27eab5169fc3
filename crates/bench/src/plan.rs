//! How much is measured.

use std::time::Duration;

use agentkernel_core::Class;
use agentkernel_wire::BenchMeasure;

/// How often each thing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Samples of a command in a sandbox of its own.
    pub runs: u64,
    /// How long the machine rests before each of them.
    pub rest: Duration,
    /// Samples of its phases.
    pub phases: u64,
    /// Lives of a sandbox.
    pub lives: u64,
    /// Commands in a row in a living one.
    pub execs: u64,
    /// Requests, and how many at a time.
    pub requests: u64,
    pub at_a_time: u64,
    /// The most at once.
    pub most: u64,
    /// How many are held ready.
    pub pool: u64,
    /// Sandboxes that wait, for their memory.
    pub waiting: u64,
    /// Rounds of hand-outs.
    pub hand_outs: u64,
}

impl Plan {
    /// What is measured of backends of this class.
    pub fn of(request: &BenchMeasure, class: Class) -> Self {
        let quick = request.quick;
        let either = |quickly, thoroughly| if quick { quickly } else { thoroughly };
        match class {
            Class::Process | Class::Wasm => {
                let runs = request.runs.unwrap_or(either(100, 500));
                Self {
                    runs,
                    rest: Duration::ZERO,
                    phases: runs.div_ceil(2),
                    lives: runs.div_ceil(10),
                    execs: 50,
                    requests: 100,
                    at_a_time: 10,
                    most: request.most.unwrap_or(either(50, 200)),
                    pool: either(32, 128),
                    waiting: either(20, 100),
                    hand_outs: either(8, 40),
                }
            }
            // An engine takes a hundred times as long for one, and its tool as long again.
            Class::Container | Class::Vm | Class::Orchestrator => {
                let runs = request.runs.unwrap_or(either(10, 30));
                Self {
                    runs,
                    rest: Duration::from_millis(250),
                    phases: runs.div_ceil(2),
                    lives: runs.div_ceil(3),
                    execs: either(10, 50),
                    requests: either(20, 100),
                    at_a_time: 10,
                    most: request.most.unwrap_or(either(5, 20)),
                    pool: either(8, 16),
                    waiting: either(5, 20),
                    hand_outs: either(8, 40),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_backends_do_less_and_what_was_asked_for_counts() {
        let request = BenchMeasure {
            program: "/bin/agentkernel".into(),
            backends: Vec::new(),
            quick: false,
            json: false,
            runs: None,
            most: None,
            results: "results".into(),
        };
        let plan = |request: &BenchMeasure| {
            Class::ALL.iter().map(|&class| Plan::of(request, class)).collect::<Vec<_>>()
        };
        let all = plan(&request);
        assert!(all[2].runs < all[0].runs && all[2].pool < all[0].pool);
        // What says how the requests go is the same for all.
        assert!(all.iter().all(|plan| (plan.requests, plan.at_a_time) == (100, 10)));
        // Fewer than six rounds have no interval.
        assert!(all.iter().all(|plan| plan.lives >= 6 && plan.phases >= 6));
        let asked = BenchMeasure { runs: Some(7), most: Some(3), ..request };
        assert!(plan(&asked).iter().all(|plan| (plan.runs, plan.most) == (7, 3)));
    }
}
