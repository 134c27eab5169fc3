//! Which of the routes are tried with which engine.
//!
//! A container engine takes a hundred times as long for a place as the kernel does, and all of them
//! are driven by the same code: a product is a table. A route leads to a place by whatever engine, and
//! an engine makes the same place for each. So what root's engines have shown on all routes others
//! show on one, and which that is is drawn, by the behaviour's name: over all behaviours every engine
//! is tried on every route, and over all engines every behaviour. Of one on a foreign machine only that is
//! tried which is different there.

use std::hash::{DefaultHasher, Hash, Hasher};

use agentkernel_core::Capability;

use crate::lent::is_lent_to;
use crate::{Behaviour, Route, Subject, far};

/// How much of a table is tried over container engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// All of it on all routes with root's engines here. With others all of it on one route each, and
    /// on all for an ordinary user's what is different there: mounts, limits and users. Of root's
    /// Docker as an ordinary user has it that alone, on one route each.
    RootsOnAllRoutes,
    /// All of it on one route with each engine, no two of which take the same one; of root's Docker as
    /// an ordinary user has it what is different there alone.
    EachOnOneRoute,
    /// All of it on all routes with all engines.
    All,
}

/// What an ordinary user's engine does otherwise than root's.
const OTHERWISE: [Capability; 7] = [
    Capability::MountReadWrite,
    Capability::MountCopyOnWrite,
    Capability::LimitCpus,
    Capability::LimitMemory,
    Capability::LimitPids,
    Capability::LimitDisk,
    Capability::User,
];

/// The engines among which is drawn, in their order.
#[derive(Debug)]
pub(crate) struct Draw {
    cover: Cover,
    engines: Vec<Engine>,
}

impl Draw {
    pub(crate) fn among(subjects: &[Subject], cover: Cover) -> Self {
        let there = subjects.iter().filter(|subject| subject.unavailable.is_none());
        let mut engines: Vec<_> = there.filter_map(engine).collect();
        engines.dedup();
        Self { cover, engines }
    }

    /// Whether a behaviour is tried on a subject, on whose route it can be seen.
    pub(crate) fn takes(&self, behaviour: &Behaviour, subject: &Subject) -> bool {
        let number = engine(subject)
            .and_then(|engine| self.engines.iter().position(|other| *other == engine));
        let Some(number) = number else { return true };
        let differs = || {
            !subject.caller.is_root() && behaviour.needs.iter().any(|need| OTHERWISE.contains(need))
        };
        match self.cover {
            Cover::All => true,
            _ if subject.foreign && !far::is_taken_foreign(behaviour.name) => false,
            cover if is_lent_to(subject) => {
                let mounts = cover == Cover::RootsOnAllRoutes
                    && behaviour.needs.contains(&Capability::MountReadOnly);
                let able = behaviour.needs.iter().all(|need| subject.has(*need));
                able && (mounts || differs()) && drawn(behaviour, number) == Some(subject.route)
            }
            Cover::RootsOnAllRoutes if is_roots_here(subject) || differs() => true,
            _ => drawn(behaviour, number) == Some(subject.route),
        }
    }
}

/// Which engine it is, whether it is root's, whether it is reached as one of another machine, and
/// whether the agent is not for that.
type Engine = (String, bool, bool, bool);

/// The engine that a subject uses, if it uses one.
fn engine(subject: &Subject) -> Option<Engine> {
    let Subject { backend, caller, host, foreign, .. } = subject;
    subject.has_engine().then(|| (backend.clone(), caller.is_root(), host.is_some(), *foreign))
}

fn is_roots_here(subject: &Subject) -> bool {
    subject.caller.is_root() && subject.host.is_none()
}

fn drawn(behaviour: &Behaviour, number: usize) -> Option<Route> {
    let routes = Route::ALL.into_iter().filter(|route| behaviour.is_on(*route));
    let routes: Vec<Route> = routes.collect();
    let mut hasher = DefaultHasher::new();
    behaviour.name.hash(&mut hasher);
    let lot = (hasher.finish() as usize).wrapping_add(number);
    routes.get(lot.checked_rem(routes.len())?).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Caller;

    fn subjects() -> Vec<Subject> {
        let user = Caller::User { uid: 1, gid: 1 };
        let root = Caller::User { uid: 0, gid: 0 };
        let all = [("native", root), ("docker", root), ("podman", root), ("podman", user)];
        let subject = |(backend, caller): (&str, Caller), route| Subject {
            backend: backend.into(),
            caller,
            route,
            capabilities: match backend {
                "native" => BTreeSet::from([Capability::ImageHost.name().into()]),
                _ => BTreeSet::new(),
            },
            ..Subject::nameless("agentkernel".into(), caller)
        };
        all.into_iter().flat_map(|one| Route::ALL.map(|route| subject(one, route))).collect()
    }

    fn taken(behaviour: &Behaviour, cover: Cover) -> Vec<String> {
        let subjects = subjects();
        let draw = Draw::among(&subjects, cover);
        let taken = subjects
            .iter()
            .filter(|subject| behaviour.is_on(subject.route) && draw.takes(behaviour, subject));
        taken.map(Subject::label).collect()
    }

    #[test]
    fn engines_share_the_routes_and_what_uses_none_is_tried_on_all() {
        for name in ["one", "another", "a-third"] {
            let behaviour = Behaviour::new(name, "", &[], |_| Ok(()));
            let taken = taken(&behaviour, Cover::EachOnOneRoute);
            let routes = taken.iter().filter(|label| !label.starts_with("native"));
            let routes: BTreeSet<_> = routes.filter_map(|label| label.split('/').nth(2)).collect();
            assert_eq!((taken.len(), routes.len()), (6, 3), "{taken:?}");
        }
    }

    #[test]
    fn roots_engines_show_all_routes_and_an_ordinary_users_what_differs_there() {
        let alike = Behaviour::new("alike", "", &[Capability::Terminal], |_| Ok(()));
        let differs = Behaviour::new("differs", "", &[Capability::LimitPids], |_| Ok(()));
        let counts = [(alike, 3, 3, 1), (differs, 3, 3, 3)];
        for (behaviour, docker, root, user) in counts {
            let taken = taken(&behaviour, Cover::RootsOnAllRoutes);
            let of = |engine: &str| taken.iter().filter(|label| label.starts_with(engine)).count();
            let found = (of("docker"), of("podman/root"), of("podman/user"));
            assert_eq!(found, (docker, root, user), "{taken:?}");
        }
    }

    #[test]
    fn what_is_seen_on_one_route_alone_is_tried_with_each() {
        let behaviour = Behaviour::new("one", "", &[], |_| Ok(())).only(Route::Live, "a test");
        assert_eq!(taken(&behaviour, Cover::EachOnOneRoute).len(), 4);
    }
}
