use std::fs;
use std::os::unix::fs::symlink;

use agentkernel_core::{Access, Network, RootAccess, User};

use super::*;
use crate::{Environment, Written};

const NOBODY: Caller<'static> =
    Caller { variables: &[], machine: Machine { processors: None, memory: None } };

/// A folder that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wire-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn of(profile: Profile) -> SpecRequest {
    SpecRequest { profile: Some(profile), ..SpecRequest::default() }
}

fn spec(request: SpecRequest) -> Spec {
    request.resolve(&NOBODY).unwrap().spec
}

fn err(request: SpecRequest) -> String {
    request.resolve(&NOBODY).unwrap_err().to_string()
}

fn volume(source: &Path, target: &str) -> Volume {
    Volume { source: source.into(), target: target.into(), access: Access::ReadOnly }
}

#[test]
fn nothing_asked_for_is_the_moderate_profile() {
    assert_eq!(spec(SpecRequest::default()), spec(of(Profile::Moderate)));
}

#[test]
fn profiles_are_those_of_the_design() {
    for (profile, network, root, user, limits) in [
        (
            Profile::Restrictive,
            Network::None,
            RootAccess::ReadOnly,
            User::Unprivileged,
            Some((1000, 256 << 20, 64)),
        ),
        (
            Profile::Moderate,
            Network::None,
            RootAccess::Writable,
            User::Unprivileged,
            Some((2000, 1 << 30, 512)),
        ),
        (Profile::Permissive, Network::Full, RootAccess::Writable, User::Caller, None),
    ] {
        let spec = spec(of(profile));
        assert_eq!((&spec.network, spec.root, &spec.user), (&network, root, &user), "{profile:?}");
        let own = &spec.limits;
        let cpus = own.cpus.map(|cpus| cpus.value.millis());
        let memory = own.memory.map(|memory| memory.value.get());
        let pids = own.pids.map(|pids| pids.value);
        assert_eq!(
            (cpus, memory, pids),
            (limits.map(|l| l.0), limits.map(|l| l.1), limits.map(|l| l.2))
        );
        assert_eq!((spec.limits.disk, spec.mounts.len(), spec.strict), (None, 0, false));
    }
}

#[test]
fn a_project_is_seen_at_its_own_path_and_is_where_commands_start() {
    let scratch = Scratch::new("project");
    let link = scratch.0.join("link");
    fs::create_dir(scratch.0.join("real")).unwrap();
    symlink("real", &link).unwrap();
    for (profile, access) in [
        (Profile::Restrictive, Access::CopyOnWrite),
        (Profile::Moderate, Access::CopyOnWrite),
        (Profile::Permissive, Access::ReadWrite),
    ] {
        let project = ProjectRequest::On { directory: Some(link.clone()), access: None };
        let spec = spec(SpecRequest { project: Some(project), ..of(profile) });
        let real = scratch.0.join("real");
        assert_eq!(spec.directory.as_ref(), Some(&real));
        assert_eq!(spec.mounts, [Mount { source: real.clone(), target: real, access }]);
    }
}

#[test]
fn the_starting_directory_may_be_another_than_the_project() {
    let scratch = Scratch::new("directory");
    let project = ProjectRequest::On { directory: Some(scratch.0.clone()), access: None };
    let request = SpecRequest {
        project: Some(project),
        directory: Some("/srv".into()),
        ..SpecRequest::default()
    };
    assert_eq!(spec(request).directory, Some("/srv".into()));
}

#[test]
fn a_project_can_be_turned_off() {
    let request = SpecRequest { project: Some(ProjectRequest::Off), ..SpecRequest::default() };
    assert_eq!(spec(request).mounts, []);
}

#[test]
fn a_project_may_not_hide_the_sandboxs_own_folders() {
    for path in ["/", "/usr", "/proc", "/dev", "/sys", "/etc", "/tmp", "/proc/self", "/sys/kernel"]
    {
        let project = ProjectRequest::On { directory: Some(path.into()), access: None };
        let err = err(SpecRequest { project: Some(project), ..SpecRequest::default() });
        assert!(err.contains("the sandbox's"), "{path}: {err}");
    }
}

#[test]
fn mounts_come_parents_first_in_whatever_order_they_were_asked_for() {
    let scratch = Scratch::new("order");
    let request = SpecRequest {
        volumes: vec![
            volume(&scratch.0, "/a/b"),
            volume(&scratch.0, "/a"),
            volume(&scratch.0, "/0"),
        ],
        ..SpecRequest::default()
    };
    let targets: Vec<_> = spec(request).mounts.into_iter().map(|mount| mount.target).collect();
    assert_eq!(targets, ["/0", "/a", "/a/b"].map(PathBuf::from));
}

#[test]
fn mounts_that_can_not_be_are_refused() {
    let scratch = Scratch::new("refused");
    let here = &scratch.0;
    let gone = here.join("gone");
    for (volumes, part) in [
        (vec![volume(&gone, "/a")], "gone can't be used: No such file"),
        (vec![volume(Path::new("x"), "/a")], "relative"),
        (vec![volume(here, "/a"), volume(here, "/a")], "two volumes have the target /a"),
        (vec![volume(here, "/")], "nothing can be mounted at /"),
        (vec![volume(here, "/proc/x")], "nothing can be mounted at /proc/x"),
        (vec![volume(here, "/dev/shm")], "nothing can be mounted at /dev/shm"),
    ] {
        let err = err(SpecRequest { volumes, ..SpecRequest::default() });
        assert!(err.contains(part), "{err}");
    }
    let volumes = vec![volume(here, "/dev/shm/x"), volume(here, "/etc/x")];
    assert_eq!(spec(SpecRequest { volumes, ..SpecRequest::default() }).mounts.len(), 2);
}

#[test]
fn an_image_must_be_a_directory() {
    let scratch = Scratch::new("image");
    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    let of = |path: &Path| SpecRequest {
        image: Some(ImageRequest::Rootfs(path.into())),
        ..SpecRequest::default()
    };
    assert_eq!(spec(of(&scratch.0)).image, Image::Rootfs(scratch.0.clone()));
    assert!(err(of(&file)).contains("not a directory"));
    assert!(err(of(&scratch.0.join("gone"))).contains("can't be used"));
}

#[test]
fn the_callers_variables_stay_out_unless_named() {
    let variables: Vec<(OsString, OsString)> =
        [("LANG", "C"), ("LC_TIME", "C"), ("TERM", "xterm"), ("TOKEN", "secret"), ("LC", "no")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
    let caller = Caller { variables: &variables, ..NOBODY };
    let names = |request: SpecRequest| {
        let environment = request.resolve(&caller).unwrap().spec.environment;
        environment.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(of(Profile::Restrictive)), [""; 0]);
    assert_eq!(names(of(Profile::Moderate)), [""; 0]);
    assert_eq!(names(of(Profile::Permissive)), ["LANG", "LC_TIME"]);
    let env = ["TOKEN", "UNSET", "SET=1"].map(|word| crate::read_variable(word.as_ref()).unwrap());
    let request = SpecRequest { env: Environment::from(env), ..SpecRequest::default() };
    assert_eq!(names(request), ["SET", "TOKEN"]);
}

#[test]
fn what_was_asked_for_replaces_the_profiles_word() {
    let request = SpecRequest {
        network: Some(Network::None),
        user: Some(User::read(OsStr::new("0:5")).unwrap()),
        strict: Some(true),
        timeout: Some(Duration::from_secs(3)),
        backend: Some("native".into()),
        ..of(Profile::Permissive)
    };
    let resolved = request.resolve(&NOBODY).unwrap();
    assert_eq!(resolved.spec.network, Network::None);
    assert_eq!(resolved.spec.user, User::Ids { uid: 0, gid: 5 });
    assert!(resolved.spec.strict);
    assert_eq!(resolved.time_limit, Some(Duration::from_secs(3)));
    assert_eq!(resolved.backend.as_deref(), Some("native"));
}

#[test]
fn a_command_has_a_program_and_no_nul() {
    assert!(command(vec!["true".into()], None).is_ok());
    assert!(matches!(command(vec![], None), Err(RequestError::NoCommand)));
    assert!(matches!(command(vec!["a\0".into()], None), Err(RequestError::Nul)));
}
