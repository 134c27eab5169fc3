use std::fs;
use std::os::unix::fs::symlink;

use agentkernel_core::{Access, Capability, Image, Module, Network, Pull, RootAccess, User};

use super::*;
use crate::{BuildRequest, Environment, ImageRequest, Written};

const NOBODY: Caller<'static> = Caller {
    variables: &[],
    machine: Machine { processors: None, memory: None },
    capabilities: Capabilities::new(&[Capability::ImageHost, Capability::ImageRootfs]),
    program: None,
};

/// Of a container engine.
const ENGINES: Caller<'static> =
    Caller { capabilities: Capabilities::new(&[Capability::ImageReference]), ..NOBODY };

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
fn a_module_must_be_a_file() {
    let scratch = Scratch::new("module");
    let (file, link) = (scratch.0.join("app.wasm"), scratch.0.join("link.wasm"));
    fs::write(&file, "").unwrap();
    symlink(&file, &link).unwrap();
    let of = |path: &Path| SpecRequest {
        image: Some(ImageRequest::Module(path.into())),
        ..SpecRequest::default()
    };
    for path in [&file, &link] {
        assert_eq!(spec(of(path)).image, Image::Module(Module::File(file.clone())));
    }
    assert!(err(of(&scratch.0)).ends_with("is not a file"));
    assert!(err(of(&scratch.0.join("gone.wasm"))).contains("gone.wasm can't be used"));
    assert!(err(of(Path::new("app.wasm"))).contains("relative to a directory that is not known"));
}

#[test]
fn where_commands_are_modules_none_of_them_is_the_image_until_one_is_named() {
    let modules = Caller { capabilities: Capabilities::new(&[Capability::ImageModule]), ..NOBODY };
    for request in ["", "image = \"auto\""] {
        let (image, why) = chosen(request, &modules);
        assert_eq!(image, Image::Module(Module::Any), "{request}");
        assert_eq!(why.as_deref(), Some("the backend runs modules, and none was named"));
    }
    let named = Image::Module(Module::Named("ghcr.io/x/y:latest".into()));
    assert_eq!(chosen("image = \"ghcr.io/x/y\"", &modules), (named, None));
}

/// The image of a request and why it has it.
fn chosen(request: &str, caller: &Caller<'_>) -> (Image, Option<String>) {
    let request: SpecRequest = toml::from_str(request).unwrap();
    let resolved = request.resolve(caller).unwrap();
    (resolved.spec.image, resolved.image_why)
}

#[test]
fn an_image_without_a_name_is_the_hosts_where_the_backend_has_that() {
    let python = Caller { program: Some(OsStr::new("python3")), ..NOBODY };
    let both = Capabilities::new(&[Capability::ImageHost, Capability::ImageReference]);
    let both = Caller { capabilities: both, ..python };
    let host = |why: &str| (Image::Host, Some(why.to_owned()));
    let own = host("the backend shows the machine's own programs");
    let fitting =
        (Image::Reference("python:3.13-slim".into()), Some("the command is python3".into()));
    assert_eq!(chosen("", &python), own);
    assert_eq!(chosen("", &both), own);
    assert_eq!(chosen("image = \"auto\"", &both), fitting);
    let engines = Caller { capabilities: ENGINES.capabilities, ..python };
    for request in ["", "image = \"auto\"", "build = false"] {
        assert_eq!(chosen(request, &engines), fitting, "{request}");
    }
    let none = Caller { capabilities: Capabilities::new(&[]), ..python };
    for (request, caller) in [("image = \"auto\"", &python), ("", &none)] {
        assert_eq!(chosen(request, caller), host("the backend starts no image by its name"));
    }
}

#[test]
fn an_image_that_was_named_needs_no_reason() {
    let reference = Image::Reference("ghcr.io/x/y:1".into());
    // Whether the backend can is not asked here.
    for caller in [&NOBODY, &ENGINES] {
        assert_eq!(chosen("image = \"ghcr.io/x/y:1\"", caller), (reference.clone(), None));
        assert_eq!(chosen("image = \"host\"", caller), (Image::Host, None));
    }
}

#[test]
fn a_name_without_a_tag_has_the_one_that_engines_fill_in() {
    let pinned = format!("python@sha256:{}", "0f".repeat(32));
    for (asked, name) in [
        ("python", "python:latest"),
        ("python:3", "python:3"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        (&pinned, &pinned),
    ] {
        let image = Image::Reference(name.into());
        assert_eq!(chosen(&format!("image = \"{asked}\""), &ENGINES), (image, None));
    }
}

#[test]
fn only_a_project_that_is_shown_chooses_an_image() {
    let scratch = Scratch::new("fitting");
    fs::write(scratch.0.join("go.mod"), "").unwrap();
    let project = format!("project = {:?}", scratch.0);
    let go = (Image::Reference("golang:1".into()), Some("the project has go.mod".into()));
    assert_eq!(chosen(&project, &ENGINES), go);
    let (image, why) = chosen("project = false", &ENGINES);
    assert_eq!(image, Image::Reference("debian:13-slim".into()));
    assert_eq!(why.unwrap(), "the command asks for no other, and no project is shown");
}

#[test]
fn a_build_is_of_a_folder_with_a_dockerfile() {
    let scratch = Scratch::new("build");
    let of = |folder: &Path| SpecRequest {
        build: Some(BuildRequest::On(Some(folder.into()))),
        ..SpecRequest::default()
    };
    assert!(err(of(&scratch.0)).ends_with("has no Dockerfile to build an image from"));
    fs::write(scratch.0.join("Dockerfile"), "FROM scratch").unwrap();
    let link = scratch.0.join("link");
    symlink(".", &link).unwrap();
    let resolved = of(&scratch.0).resolve(&NOBODY).unwrap();
    assert_eq!(of(&link).resolve(&NOBODY).unwrap(), resolved);
    assert_eq!(resolved.provision.build.as_ref(), Some(&scratch.0));
    assert_eq!(resolved.image_why, Some(format!("it is built from {}", scratch.0.display())));
    let Image::Reference(name) = resolved.spec.image else { panic!("no reference") };
    let digest = name.strip_prefix("localhost/agentkernel-build-").unwrap();
    let digest = digest.strip_suffix(":latest").unwrap();
    assert!(digest.len() == 16 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    assert!(crate::Reference::parse(&name).is_ok());
    let other = scratch.0.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("Dockerfile"), "FROM scratch").unwrap();
    assert_ne!(spec(of(&other)).image, Image::Reference(name));
    assert!(err(of(&scratch.0.join("gone"))).contains("the folder to build"));
    let both = SpecRequest { image: Some(ImageRequest::Auto), ..of(&scratch.0) };
    assert_eq!(err(both), "an image is named or built, not both");
}

#[test]
fn an_image_is_fetched_if_it_is_missing_unless_something_else_is_said() {
    assert_eq!(SpecRequest::default().resolve(&ENGINES).unwrap().provision.pull, Pull::Missing);
    let always = SpecRequest { pull: Some(Pull::Always), ..SpecRequest::default() };
    assert_eq!(always.resolve(&ENGINES).unwrap().provision.pull, Pull::Always);
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
    let of = |argv: &[&str]| command(argv.iter().map(OsString::from).collect(), None, None);
    for image in [Image::Host, Image::Reference("a".into()), Image::Rootfs("/a".into())] {
        assert!(check_command(&of(&["true"]).unwrap(), &image).is_ok());
        let own = with_entrypoint(of(&[]).unwrap(), None, &image).unwrap();
        let may_have_own = matches!(image, Image::Reference(_));
        assert_eq!(check_command(&own, &image).is_ok(), may_have_own);
        let none = check_command(&of(&[]).unwrap(), &image);
        assert!(matches!(none, Err(RequestError::NoCommand)));
    }
    assert!(matches!(of(&["a\0"]), Err(RequestError::Nul)));
    let with = |program: &str, image| {
        with_entrypoint(of(&["a"]).unwrap(), Some(program.into()), &image).map(|with| with.argv)
    };
    assert_eq!(with("sh", Image::Host).unwrap(), ["sh", "a"]);
    assert_eq!(with("", Image::Reference("x".into())).unwrap(), ["a"]);
    assert!(matches!(with("a\0", Image::Host), Err(RequestError::Nul)));
    let module = with("sh", Image::Module(Module::File("/app.wasm".into())));
    assert!(matches!(module, Err(RequestError::EntrypointOfModule)));
}

#[test]
fn a_modules_command_may_have_no_words_and_call_a_function() {
    let module = Image::Module(Module::File("/app.wasm".into()));
    let of = |argv: &[&str], function: Option<&str>| {
        command(argv.iter().map(OsString::from).collect(), function.map(String::from), None)
    };
    for (argv, function) in [(&[][..], None), (&["1"][..], Some("add")), (&[], Some("add"))] {
        let command = of(argv, function).unwrap();
        assert!(check_command(&command, &module).is_ok());
        if function.is_some() {
            let refused = check_command(&command, &Image::Host).unwrap_err();
            let expected = "the function \"add\" can't be called: only a WebAssembly module has \
                            functions";
            assert_eq!(refused.to_string(), expected);
            assert!(refused.hint().contains("--invoke"));
        }
    }
    for name in ["", "a\0"] {
        assert!(matches!(of(&[], Some(name)), Err(RequestError::FunctionName(_))), "{name:?}");
    }
}
