//! Which of the routes are tried with which engine.
//!
//! A container engine takes a hundred times as long for a place as the kernel does, and all of them
//! are driven by the same code: a product is a table. A route leads to a place by whatever engine, and
//! an engine makes the same place for each. So lots are drawn by the behaviour's name: over all
//! behaviours every engine is tried on every route, and over all engines every behaviour, according to
//! who has a part in it ([`Matter`]). Of one on a foreign machine only that is tried which is different
//! there. The kernel's own places (native) take all on all routes, and so does everybody by
//! `--all-routes`.

use std::hash::{DefaultHasher, Hash, Hasher};

use agentkernel_core::Capability;

use crate::lent::is_lent_to;
use crate::{Behaviour, Matter, Route, Subject, far};

/// How much of a table is tried over container engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// What is a matter of the engine: all of it on all routes with the first one, and on one route
    /// with each other; mounts on all with an ordinary user's own; half of it with one elsewhere. What
    /// is one of the link: all of it on one route with each engine, no two of which take the same one.
    /// What is one of the program: all of it with the first, cold if it can be seen there. Of root's
    /// Docker as an ordinary user has it what needs mounts, limits or users, on one route each.
    ByMatter,
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

/// What an ordinary user's own engine gets by another way on each route.
const MOUNTS: [Capability; 2] = [Capability::MountReadWrite, Capability::MountCopyOnWrite];

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
        let users = !subject.caller.is_root();
        let needs_any = |of: &[Capability]| behaviour.needs.iter().any(|need| of.contains(need));
        let is_drawn = || drawn(behaviour, number) == Some(subject.route);
        match self.cover {
            Cover::All => true,
            _ if subject.foreign => far::is_taken_foreign(behaviour.name) && is_drawn(),
            cover if is_lent_to(subject) => {
                let mounts = cover == Cover::ByMatter
                    && behaviour.needs.contains(&Capability::MountReadOnly);
                let able = behaviour.needs.iter().all(|need| subject.has(*need));
                able && (mounts || users && needs_any(&OTHERWISE)) && is_drawn()
            }
            Cover::EachOnOneRoute => is_drawn(),
            Cover::ByMatter => match behaviour.matter {
                Matter::Engine if subject.host.is_some() => {
                    lot(behaviour).is_multiple_of(2) && is_drawn()
                }
                Matter::Engine => number == 0 || users && needs_any(&MOUNTS) || is_drawn(),
                Matter::Link => is_drawn(),
                Matter::Program => number == 0 && is_first(behaviour, subject),
            },
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

/// Whether no route before the subject's shows it.
fn is_first(behaviour: &Behaviour, subject: &Subject) -> bool {
    Route::ALL.into_iter().find(|route| behaviour.is_on(*route)) == Some(subject.route)
}

fn drawn(behaviour: &Behaviour, number: usize) -> Option<Route> {
    let routes = Route::ALL.into_iter().filter(|route| behaviour.is_on(*route));
    let routes: Vec<Route> = routes.collect();
    let lot = lot(behaviour).wrapping_add(number);
    routes.get(lot.checked_rem(routes.len())?).copied()
}

fn lot(behaviour: &Behaviour) -> usize {
    let mut hasher = DefaultHasher::new();
    behaviour.name.hash(&mut hasher);
    hasher.finish() as usize
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
    fn who_has_a_part_in_it_decides_how_much_is_tried() {
        let place = Behaviour::new("place", "", &[Capability::LimitPids], |_| Ok(()));
        let mount = Behaviour::new("mount", "", &[Capability::MountReadWrite], |_| Ok(()));
        let link = Behaviour { matter: Matter::Link, ..place };
        let program = Behaviour { matter: Matter::Program, ..place };
        let counts = [(place, [3, 1, 1]), (mount, [3, 1, 3]), (link, [1, 1, 1])];
        for (behaviour, expected) in counts {
            let taken = taken(&behaviour, Cover::ByMatter);
            let of = |engine: &str| taken.iter().filter(|label| label.starts_with(engine)).count();
            let found = ["docker", "podman/root", "podman/user"].map(of);
            assert_eq!(found, expected, "{taken:?}");
        }
        let taken = taken(&program, Cover::ByMatter);
        let native = taken.iter().filter(|label| label.starts_with("native")).count();
        assert_eq!((taken.len(), native), (4, 3), "{taken:?}");
    }

    #[test]
    fn what_is_seen_on_one_route_alone_is_tried_with_each() {
        let behaviour = Behaviour::new("one", "", &[], |_| Ok(())).only(Route::Live, "a test");
        assert_eq!(taken(&behaviour, Cover::EachOnOneRoute).len(), 4);
    }
}
