//! Limits: what was asked for, what a profile says, and what the machine has.

use agentkernel_core::{Asked, Bytes, Cpus, Limits, Origin};

use crate::profile::Defaults;
use crate::{RequestError, SpecRequest};

/// What of a machine bounds a sandbox. `None` is not known, and bounds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// How many processors run.
    pub processors: Option<u32>,
    /// The main memory in bytes.
    pub memory: Option<u64>,
}

impl Machine {
    fn cpus(&self) -> Option<Cpus> {
        // A machine with more than a thousand is no bound: nobody can ask for as many.
        self.processors.filter(|n| (1..=1000).contains(n)).map(Cpus::whole)
    }

    /// In whole mebibytes, which is how people know it.
    fn bytes(&self) -> Option<Bytes> {
        self.memory.map(|bytes| bytes >> 20).filter(|mib| *mib > 0).map(Bytes::mib)
    }
}

/// The limits of a request: its own, or else the profile's. What a user asks for and the machine
/// doesn't have is an error; a profile's default is lowered to the machine in silence.
pub(crate) fn resolve(
    request: &SpecRequest,
    defaults: &Defaults,
    machine: &Machine,
) -> Result<Limits, RequestError> {
    Ok(Limits {
        cpus: choose("cpus", request.cpus, defaults.cpus, machine.cpus())?,
        memory: choose("memory", request.memory, defaults.memory, machine.bytes())?,
        pids: choose("pids", request.pids.map(|pids| pids.get()), defaults.pids, None)?,
        disk: choose("disk", request.disk, None, None)?,
    })
}

fn choose<T: Ord + Copy + ToString>(
    what: &'static str,
    asked: Option<T>,
    default: Option<T>,
    most: Option<T>,
) -> Result<Option<Asked<T>>, RequestError> {
    match (asked, most) {
        (Some(value), Some(most)) if value > most => Err(RequestError::MoreThanMachine {
            what,
            asked: value.to_string(),
            most: most.to_string(),
        }),
        (Some(value), _) => Ok(Some(Asked { value, by: Origin::User })),
        (None, most) => Ok(default.map(|default| Asked {
            value: most.map_or(default, |most| default.min(most)),
            by: Origin::Profile,
        })),
    }
}

#[cfg(test)]
mod tests {
    use agentkernel_core::Profile;

    use super::*;
    use crate::profile::defaults;

    const SMALL: Machine = Machine { processors: Some(1), memory: Some(300 << 20) };

    #[test]
    fn a_default_larger_than_the_machine_is_lowered() {
        let moderate = defaults(Profile::Moderate);
        let limits = resolve(&SpecRequest::default(), &moderate, &SMALL).unwrap();
        let by = Origin::Profile;
        assert_eq!(limits.cpus, Some(Asked { value: Cpus::whole(1), by }));
        assert_eq!(limits.memory, Some(Asked { value: Bytes::mib(300), by }));
        assert_eq!(limits.pids, Some(Asked { value: 512, by }));
        assert_eq!(limits.disk, None);
    }

    #[test]
    fn a_wish_larger_than_the_machine_is_refused() {
        let moderate = defaults(Profile::Moderate);
        for request in [
            SpecRequest { cpus: "1.01".parse().ok(), ..SpecRequest::default() },
            SpecRequest { memory: "301m".parse().ok(), ..SpecRequest::default() },
        ] {
            assert!(resolve(&request, &moderate, &SMALL).is_err(), "{request:?}");
            assert!(resolve(&request, &moderate, &Machine::default()).is_ok(), "{request:?}");
        }
    }

    #[test]
    fn a_wish_replaces_the_default_even_upwards() {
        let restrictive = defaults(Profile::Restrictive);
        let request = SpecRequest { memory: Some(Bytes::mib(512)), ..SpecRequest::default() };
        let limits = resolve(&request, &restrictive, &Machine::default()).unwrap();
        assert_eq!(limits.memory, Some(Asked { value: Bytes::mib(512), by: Origin::User }));
        assert_eq!(limits.pids, Some(Asked { value: 64, by: Origin::Profile }));
    }
}
