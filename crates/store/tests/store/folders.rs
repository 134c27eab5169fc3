//! Where everything lies, and which folders are refused.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use agentkernel_store::{Dirs, DirsError};

use crate::common::{dirs, scratch};

fn found(variables: &[(&str, &str)], uid: u32) -> Result<Dirs, DirsError> {
    let value = |name: &str| variables.iter().find(|known| known.0 == name).map(|known| known.1);
    Dirs::find(|name| value(name).map(OsString::from), uid)
}

#[test]
fn they_are_where_xdg_says() {
    let home = ("HOME", "/home/a");
    for (variables, uid, state, runtime) in [
        (&[home][..], 7, "/home/a/.local/state/agentkernel", "/tmp/agentkernel-7"),
        (&[home][..], 0, "/home/a/.local/state/agentkernel", "/run/agentkernel"),
        (
            &[home, ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")][..],
            0,
            "/s/agentkernel",
            "/r/agentkernel",
        ),
        (
            &[home, ("XDG_STATE_HOME", "s"), ("XDG_RUNTIME_DIR", "")][..],
            7,
            "/home/a/.local/state/agentkernel",
            "/tmp/agentkernel-7",
        ),
        (&[("XDG_STATE_HOME", "/s")][..], 7, "/s/agentkernel", "/tmp/agentkernel-7"),
    ] {
        let dirs = found(variables, uid).unwrap();
        assert_eq!((dirs.state(), dirs.runtime()), (Path::new(state), Path::new(runtime)));
    }
    for variables in [&[][..], &[("HOME", "")], &[("HOME", "a"), ("XDG_STATE_HOME", "s")]] {
        assert!(matches!(found(variables, 0), Err(DirsError::NoHome)));
    }
}

#[test]
fn they_are_made_for_the_caller_alone() {
    let scratch = scratch();
    let dirs = dirs(&scratch);
    dirs.check().unwrap();
    assert!(!dirs.state().exists(), "to check makes nothing");
    for _ in 0..2 {
        dirs.prepare().unwrap();
        dirs.check().unwrap();
        for folder in [dirs.state(), dirs.runtime(), &dirs.sandboxes(), &dirs.sockets()] {
            assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o7777, 0o700);
        }
    }
}

/// Puts something in the place of the folder, and has it looked at in both ways.
fn refused(plant: impl Fn(&Path)) -> String {
    let refused = [false, true].map(|runtime| {
        let scratch = scratch();
        let dirs = dirs(&scratch);
        let folder = if runtime { dirs.runtime() } else { dirs.state() };
        plant(folder);
        let errors = [dirs.check().unwrap_err(), dirs.prepare().unwrap_err()].map(|err| {
            assert!(!err.hint().is_empty());
            err.to_string().replace(folder.to_str().unwrap(), "FOLDER")
        });
        assert_eq!(errors[0], errors[1]);
        errors[0].clone()
    });
    assert_eq!(refused[0], refused[1]);
    refused[0].clone()
}

#[test]
fn a_folder_that_others_may_have_planted_is_refused() {
    let link = refused(|folder| {
        let aim = folder.with_file_name("aim");
        fs::create_dir(&aim).unwrap();
        fs::set_permissions(&aim, Permissions::from_mode(0o700)).unwrap();
        symlink(&aim, folder).unwrap();
    });
    assert_eq!(link, "FOLDER is not a folder, or is a link to one");
    let dangling = refused(|folder| symlink("nowhere", folder).unwrap());
    assert_eq!(dangling, link);
    assert_eq!(refused(|folder| fs::write(folder, "").unwrap()), link);
    let open = refused(|folder| {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o750)).unwrap();
    });
    assert_eq!(open, "FOLDER is open to other users (mode 0750)");
}

#[test]
fn a_folder_of_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can give a folder away");
    }
    let other = refused(|folder| {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        chown(folder, Some(4711), None).unwrap();
    });
    assert_eq!(other, "FOLDER belongs to user 4711, not to user 0");
}

#[test]
fn sockets_with_paths_that_are_too_long_are_refused_at_once() {
    let id = "0123456789ab".parse().unwrap();
    let socket = |length: usize| {
        let runtime = format!("/{}", "r".repeat(length - 1));
        let dirs = found(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", &runtime)], 0).unwrap();
        (dirs.socket(&id).as_os_str().len(), dirs.check())
    };
    let (length, checked) = socket(67);
    assert_eq!(length, 107);
    checked.unwrap();
    let (length, checked) = socket(68);
    assert_eq!(length, 108);
    assert!(checked.unwrap_err().hint().contains("at most 67 bytes"));
}
