//! By what means each limit holds on this machine.

use agentkernel_core::{
    Asked, BootError, Bytes, LimitInForce, LimitKind, Limited, Limits, Origin, Spec,
};
use agentkernel_guest::Nearest;
use agentkernel_sys::cgroup::{CgroupError, Controller, Limit, Site};
use agentkernel_sys::machine;

/// The agent's own few files need room too.
const LEAST_DISK: Bytes = Bytes::mib(1);

/// The limits of a spec, and where they are to be enforced.
#[derive(Debug)]
pub struct LimitPlan {
    wanted: Vec<Wanted>,
    pub site: Site,
    /// The size of all scratch space, in bytes; `None` is the kernel's default, half the memory.
    pub scratch: Option<u64>,
    disk: Option<Asked<Bytes>>,
    strict: bool,
    /// What a process may have besides the limit of memory where that is each process's own.
    besides: u64,
}

#[derive(Debug)]
struct Wanted {
    kind: LimitKind,
    limit: Limit,
    by: Origin,
    /// Why no group can have it.
    impossible: Option<String>,
    /// Whether the machine has no more than this anyway.
    is_all: bool,
}

impl LimitPlan {
    /// Plans them, or says which can't be enforced. `on_disk` is whether what is written is kept
    /// in a directory of the host's, and `besides` what each process needs for itself, in bytes.
    pub fn new(spec: &Spec, on_disk: bool, besides: u64) -> Result<Self, BootError> {
        check_sizes(&spec.limits)?;
        if on_disk {
            refuse_disk(&spec.limits)?;
        }
        let mut wanted = wanted(&spec.limits);
        let limits: Vec<Limit> = wanted.iter().filter(|w| !w.is_all).map(|w| w.limit).collect();
        let (site, impossible) = Site::find(&limits);
        for (limit, error) in impossible {
            for wanted in wanted.iter_mut().filter(|w| w.limit == limit) {
                wanted.impossible = Some(error.to_string());
            }
        }
        let Limits { memory, disk, .. } = &spec.limits;
        let scratch = disk.or(*memory).map(|asked| asked.value.get());
        let plan = Self { wanted, site, scratch, disk: *disk, strict: spec.strict, besides };
        for missed in plan.wanted.iter().filter(|w| w.impossible.is_some()) {
            plan.allow_nearest(missed, missed.impossible.as_deref().unwrap_or_default())?;
        }
        Ok(plan)
    }

    /// Why the failure to make a group is no reason to refuse the spec, if it is none.
    pub fn without_group(&self, error: &CgroupError) -> Result<(), BootError> {
        let why = error.to_string();
        let mut grouped = self.wanted.iter().filter(|wanted| !wanted.is_all);
        grouped.try_for_each(|wanted| self.allow_nearest(wanted, &why))
    }

    /// What somebody asked for is enforced or refused; a profile's default may fall back.
    fn allow_nearest(&self, wanted: &Wanted, why: &str) -> Result<(), BootError> {
        if wanted.by == Origin::Profile && !self.strict {
            return Ok(());
        }
        let kind = wanted.kind.name();
        let fix = if wanted.by == Origin::Profile {
            "leave out --strict, or make a control group writable".into()
        } else {
            format!("leave out --{kind}, run as root, or run below a control group that is yours")
        };
        Err(BootError::Refused { why: format!("--{kind} can't be enforced here: {why}"), fix })
    }

    /// The nearest walls for what no group can limit here: what each process is held to by itself.
    pub fn beyond_group(&self) -> Vec<Nearest> {
        self.nearest(|wanted| wanted.impossible.is_some())
    }

    /// The nearest walls for what the group would limit, for when there is none.
    pub fn instead_of_group(&self) -> Vec<Nearest> {
        self.nearest(|wanted| wanted.impossible.is_none())
    }

    fn nearest(&self, which: impl Fn(&Wanted) -> bool) -> Vec<Nearest> {
        let wanted = self.wanted.iter().filter(|wanted| !wanted.is_all && which(wanted));
        let nearest = wanted.map(|wanted| match Nearest::of(wanted.limit) {
            Nearest::Memory(bytes) => Nearest::Memory(bytes.saturating_add(self.besides)),
            other => other,
        });
        nearest.collect()
    }

    /// The limits in force: exactly by the means that `group` has for a controller, else nearly,
    /// for the reason `why_none` if there was no other.
    pub fn in_force(
        &self,
        group: impl Fn(Controller) -> Option<&'static str>,
        why_none: &str,
    ) -> Vec<LimitInForce> {
        let disk = self.disk.map(|asked| LimitInForce {
            kind: LimitKind::Disk,
            value: asked.value.get(),
            by: Limited::Exactly("tmpfs".into()),
        });
        let others = self.wanted.iter().map(|wanted| {
            let by = match group(wanted.limit.controller) {
                _ if wanted.is_all => Limited::Exactly("the machine's size".into()),
                Some(means) => Limited::Exactly(means.into()),
                None => Limited::Nearly {
                    means: Nearest::of(wanted.limit).name().into(),
                    why: wanted.impossible.clone().unwrap_or_else(|| why_none.into()),
                },
            };
            LimitInForce { kind: wanted.kind, value: wanted.limit.value, by }
        });
        others.chain(disk).collect()
    }
}

fn wanted(limits: &Limits) -> Vec<Wanted> {
    let want = |kind, controller, value, by| Wanted {
        kind,
        limit: Limit { controller, value },
        by,
        impossible: None,
        is_all: kind == LimitKind::Cpus && value >= u64::from(machine::processors()) * 1000,
    };
    let Limits { cpus, memory, pids, disk: _ } = limits;
    let cpus = cpus.map(|l| want(LimitKind::Cpus, Controller::Cpu, l.value.millis().into(), l.by));
    let memory = memory.map(|l| want(LimitKind::Memory, Controller::Memory, l.value.get(), l.by));
    let pids = pids.map(|l| want(LimitKind::Pids, Controller::Pids, l.value.into(), l.by));
    [cpus, memory, pids].into_iter().flatten().collect()
}

/// A directory has no limit that an ordinary user could set, or root everywhere.
pub fn refuse_disk(limits: &Limits) -> Result<(), BootError> {
    match limits.disk {
        None => Ok(()),
        Some(disk) => Err(BootError::Refused {
            why: format!(
                "--disk {} can't be enforced on a sandbox that is kept, whose files lie in a \
                 directory of the host's",
                disk.value
            ),
            fix: "leave out --disk, or use run without --keep, whose files are in memory".into(),
        }),
    }
}

fn check_sizes(limits: &Limits) -> Result<(), BootError> {
    match (limits.memory, limits.disk) {
        (_, Some(disk)) if disk.value < LEAST_DISK => Err(BootError::Refused {
            why: format!("--disk {} is too little to run anything", disk.value),
            fix: format!("give it at least {LEAST_DISK}"),
        }),
        (Some(memory), Some(disk)) if disk.value > memory.value => Err(BootError::Refused {
            why: format!(
                "--disk {} is more than the memory limit of {}, and native sandboxes keep what \
                 is written in memory",
                disk.value, memory.value
            ),
            fix: "raise --memory, or lower --disk".into(),
        }),
        _ => Ok(()),
    }
}
