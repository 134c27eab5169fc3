use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use agentkernel_core::Bytes;
use agentkernel_wire::BuildRequest;

use super::*;

/// A folder that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("settings-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        self.folder(path.parent().unwrap().strip_prefix(&self.0).unwrap().to_str().unwrap());
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn find(here: &Path, home: Option<&Path>) -> Option<PathBuf> {
    find_project_file(Some(here), &SpecRequest::default(), home)
}

#[test]
fn the_nearest_file_up_to_the_git_root_counts() {
    let scratch = Scratch::new("git");
    scratch.file("agentkernel.toml", "");
    let here = scratch.folder("repo/a/b");
    scratch.folder("repo/.git");
    assert_eq!(find(&here, None), None, "a file above the repository was found");
    let root = scratch.file("repo/agentkernel.toml", "");
    assert_eq!(find(&here, None), Some(root));
    let nearer = scratch.file("repo/a/agentkernel.toml", "");
    assert_eq!(find(&here, None), Some(nearer));
}

#[test]
fn the_search_ends_at_the_home() {
    let scratch = Scratch::new("home");
    scratch.file("agentkernel.toml", "");
    let here = scratch.folder("home/a");
    let home = scratch.0.join("home");
    assert_eq!(find(&here, Some(&home)), None);
    let file = scratch.file("home/agentkernel.toml", "");
    assert_eq!(find(&here, Some(&home)), Some(file.clone()));
    let link = scratch.0.join("link");
    symlink("home", &link).unwrap();
    assert_eq!(find(&here, Some(&link)), Some(file));
}

#[test]
fn outside_home_and_repository_only_the_folder_itself_counts() {
    let scratch = Scratch::new("outside");
    let file = scratch.file("agentkernel.toml", "");
    assert_eq!(find(&scratch.folder("a"), None), None);
    assert_eq!(find(&scratch.0, None), Some(file));
}

#[test]
fn the_search_starts_at_a_project_that_is_elsewhere() {
    let scratch = Scratch::new("elsewhere");
    let file = scratch.file("project/agentkernel.toml", "");
    let directory = Some(scratch.0.join("project"));
    let project = ProjectRequest::On { directory, access: None };
    let request = SpecRequest { project: Some(project), ..SpecRequest::default() };
    let here = scratch.folder("here");
    assert_eq!(find_project_file(Some(&here), &request, None), Some(file));
}

#[test]
fn what_a_file_says_is_relative_to_its_folder() {
    let scratch = Scratch::new("relative");
    let file = scratch.file("a/agentkernel.toml", "project = true\nvolumes = [\"data:/data\"]");
    let request = load(&file, None).unwrap().unwrap();
    assert_eq!(request.volumes[0].source, scratch.0.join("a/data"));
    let Some(ProjectRequest::On { directory: Some(directory), .. }) = request.project else {
        panic!("no project");
    };
    assert_eq!(directory, scratch.0.join("a"));
    let elsewhere = load(&file, Some(Path::new("/elsewhere"))).unwrap().unwrap();
    let Some(ProjectRequest::On { directory: Some(directory), .. }) = elsewhere.project else {
        panic!("no project");
    };
    assert_eq!(directory, Path::new("/elsewhere"));
}

#[test]
fn a_build_without_a_folder_is_the_projects() {
    let scratch = Scratch::new("build");
    scratch.file("agentkernel/config.toml", "build = true");
    let variables: &Variables = &[("XDG_CONFIG_HOME".into(), scratch.0.clone().into())];
    let build =
        |flags: SpecRequest| gather(flags, &[], ReadFiles::All, variables).unwrap().request.build;
    let on = |folder: PathBuf| Some(BuildRequest::On(Some(folder)));
    assert_eq!(build(SpecRequest::default()), on(env::current_dir().unwrap()));
    let folder = scratch.folder("project");
    let directory = Some(folder.clone());
    let project = Some(ProjectRequest::On { directory, access: None });
    let flags = SpecRequest { project, ..SpecRequest::default() };
    assert_eq!(build(flags.clone()), on(folder));
    // A project's file speaks for its own folder.
    let file = scratch.file("a/agentkernel.toml", "build = true");
    assert_eq!(load(&file, None).unwrap().unwrap().build, on(scratch.0.join("a")));
    assert_eq!(build(SpecRequest { build: Some(BuildRequest::Off), ..flags }), {
        Some(BuildRequest::Off)
    });
}

#[test]
fn flags_go_over_variables_over_the_users_file() {
    let scratch = Scratch::new("precedence");
    scratch.file("agentkernel/config.toml", "memory = \"1m\"\npids = 1\ncpus = 1");
    let variables: &Variables = &[
        ("XDG_CONFIG_HOME".into(), scratch.0.clone().into()),
        ("AGENTKERNEL_MEMORY".into(), "2m".into()),
        ("AGENTKERNEL_PIDS".into(), "2".into()),
    ];
    let flags = SpecRequest { memory: Some(Bytes::mib(3)), ..SpecRequest::default() };
    let gathered = gather(flags.clone(), &[], ReadFiles::All, variables).unwrap();
    assert!(gathered.files.contains(&scratch.0.join("agentkernel/config.toml")));
    let request = gathered.request;
    assert_eq!(request.memory, Some(Bytes::mib(3)));
    assert_eq!(request.pids.map(|pids| pids.get()), Some(2));
    assert_eq!(request.cpus.map(|cpus| cpus.millis()), Some(1000));
    let bare = gather(flags, &[], ReadFiles::None, variables).unwrap();
    assert_eq!((bare.files, bare.request.cpus), (vec![], None));
}

#[test]
fn variables_by_flag_go_over_env_files_in_their_order() {
    let scratch = Scratch::new("env");
    let files = [scratch.file("one", "A=1\nB=1\nC=1"), scratch.file("two", "B=2\nC=2")];
    let mut flags = SpecRequest::default();
    flags.env.insert("C".into(), Some("3".into()));
    lay_over_env_files(&mut flags, &files).unwrap();
    let values: Vec<_> = flags.env.into_values().flatten().collect();
    assert_eq!(values, ["1", "2", "3"]);
    let wrong = scratch.file("wrong", "A=1\n=2");
    let err = lay_over_env_files(&mut SpecRequest::default(), &[wrong]).unwrap_err();
    assert!(err.message.contains("wrong:2: "), "{}", err.message);
}

#[test]
fn a_settings_file_is_a_file_of_sensible_length() {
    let scratch = Scratch::new("kind");
    assert_eq!(load(&scratch.0.join("gone"), None), Ok(None));
    let file = scratch.file("file", "");
    assert_eq!(load(&file.join("inside"), None), Ok(None));
    let err = load(&scratch.folder("folder"), None).unwrap_err().message;
    assert!(err.ends_with("is not a file"), "{err}");
    let long = scratch.file("long", &"#".repeat((1 << 20) + 1));
    let err = load(&long, None).unwrap_err().message;
    assert!(err.ends_with("longer than 1 MiB"), "{err}");
}

#[test]
fn the_caller_owns_what_the_caller_makes() {
    let scratch = Scratch::new("owner");
    let file = scratch.file("file", "");
    assert_eq!(caller().unwrap(), fs::metadata(file).unwrap().uid());
}

#[test]
fn a_home_of_somebody_elses_holds_no_settings() {
    let scratch = Scratch::new("locked");
    let folder = scratch.folder("home");
    fs::set_permissions(&folder, Permissions::from_mode(0o000)).unwrap();
    match fs::read_dir(&folder) {
        Ok(_) => eprintln!("skipped: root may enter every home"),
        Err(_) => assert_eq!(load(&folder.join("config.toml"), None), Ok(None)),
    }
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
}
