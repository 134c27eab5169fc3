//! How much is measured.

use agentkernel_wire::BenchMeasure;

/// How often each thing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Samples of a command in a sandbox of its own.
    pub runs: u64,
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
    pub fn of(request: &BenchMeasure) -> Self {
        let quick = request.quick;
        let either = |quickly, thoroughly| if quick { quickly } else { thoroughly };
        let runs = request.runs.unwrap_or(either(100, 500));
        Self {
            runs,
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
}
