//! What a sandbox that is kept has written, and whose it is.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use agentkernel_core::{BootError, Layer, Owners, Process, RootAccess, Spec};

use crate::identity::{Mapping, OUTSIDE_BASE, OUTSIDE_COUNT};
use crate::plan::Plan;
use crate::root::upper;
use crate::stored;
use crate::users::Users;

/// Gives the directory for layers to the sandbox's user.
pub fn give(layers: &Path, plan: &Plan) -> Result<(), BootError> {
    if plan.mapping != Mapping::Many {
        return Ok(());
    }
    let (uid, gid) = plan.mapping.outside(&plan.identity);
    chown(layers, Some(uid), Some(gid)).map_err(|source| BootError::Failed {
        what: format!("can't give {} to the sandbox's user", layers.display()),
        source,
    })
}

/// The layers in `directory` of a sandbox made from `spec`.
pub fn of(spec: &Spec, directory: &Path) -> Vec<Layer> {
    let (covered, made) = around(spec);
    let root = Layer {
        target: "/".into(),
        lower: stored::trees(spec),
        upper: directory.join(upper("root")),
        covered: covered.clone(),
        made: made.clone(),
    };
    let upper = |number: usize| directory.join(upper(&number.to_string()));
    let copies = Layer::of_copies(spec, &covered, &made, upper);
    [root].into_iter().chain(private(spec, directory)).chain(copies).collect()
}

/// What is mounted in a root, and the directories that are made in it for that and for its user.
fn around(spec: &Spec) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut covered: Vec<PathBuf> = ["/dev", "/proc", "/run"].map(PathBuf::from).into();
    covered.extend(spec.mounts.iter().map(|mount| mount.target.clone()));
    let mut made = covered.clone();
    made.push("/tmp".into());
    made.extend(home(spec).map(PathBuf::from));
    (covered, made)
}

fn home(spec: &Spec) -> Option<String> {
    let users = Users::find(spec);
    let home = users.and_then(|users| users.identity(&spec.user)).map(|identity| identity.home);
    home.ok().filter(|home| home != "/")
}

/// The directories that can be written where the root can't.
fn private(spec: &Spec, directory: &Path) -> Vec<Layer> {
    if spec.root == RootAccess::Writable {
        return Vec::new();
    }
    let home = home(spec).map(|home| (home, "home"));
    let (covered, made) = around(spec);
    [("/tmp".to_owned(), "tmp")]
        .into_iter()
        .chain(home)
        .map(|(target, name)| Layer {
            target: target.into(),
            lower: Vec::new(),
            upper: directory.join(name),
            covered: covered.clone(),
            made: made.clone(),
        })
        .collect()
}

/// Whose numbers outside stand for whom inside.
pub fn owners(spec: &Spec) -> Result<Owners, BootError> {
    let mapping = Mapping::for_caller();
    let identity = Users::find(spec)?.identity(&spec.user)?;
    let user = mapping.outside(&identity);
    Ok(match mapping {
        Mapping::Many => Owners {
            outside: (OUTSIDE_BASE, OUTSIDE_BASE),
            inside: (0, 0),
            count: OUTSIDE_COUNT,
            user,
        },
        Mapping::Single { .. } => {
            Owners { outside: user, inside: (identity.uid, identity.gid), count: 1, user }
        }
    })
}

/// Refuses a user that the place doesn't have: an ordinary caller's has one.
pub fn check_user(spec: &Spec, users: &Users, process: &Process) -> Result<(), BootError> {
    if Mapping::for_caller() == Mapping::Many {
        return Ok(());
    }
    let own = users.identity(&spec.user)?;
    if (own.uid, own.gid) == (process.uid, process.gid) {
        return Ok(());
    }
    Err(BootError::Refused {
        why: format!(
            "the sandbox has no user {}:{}: one that an ordinary user made has a single user, {}:{}",
            process.uid, process.gid, own.uid, own.gid
        ),
        fix: "make the sandbox with that --user, or as root".into(),
    })
}
