//! Apple's containers, by a stand-in for their tool that is as strict: `crates/testkit/fakes/container`.
//!
//! The whole path is used, from agentkernel over agentkerneld and the tool to a command in a namespace
//! that stands for a virtual machine. What is for every backend is in the conformance suite, over the
//! same tool (`scripts/lanes/apple.sh`).
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/testkit/fakes/container");
const IMAGE: &str = "localhost/busybox";

/// A machine with the tool, its services and an image.
struct Scene {
    folder: PathBuf,
    services: Option<Child>,
}

impl Scene {
    /// Makes one, or says why none can be had here.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let daemon = Path::new(env!("CARGO_BIN_EXE_agentkernel")).with_file_name("agentkerneld");
        let busybox = std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|folder| folder.join("busybox"))
            .find(|path| path.is_file());
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt;
            own.uid() == 0
        });
        let lacking = [
            (!is_root, "it takes root"),
            (!daemon.is_file(), "there is no agentkerneld beside agentkernel"),
            (busybox.is_none(), "there is no busybox"),
            (Command::new("python3").arg("-V").output().is_err(), "there is no python3"),
            (Command::new("ip").arg("-V").output().is_err(), "there is no ip"),
        ];
        if let Some((_, why)) = lacking.into_iter().find(|(lacks, _)| *lacks) {
            println!("skipped: {why}");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("apple-scene-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        for part in ["bin", "home", "tmp", "runtime"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        fs::copy(TOOL, folder.join("bin/container")).unwrap();
        let image = folder.join("images/localhost%busybox@latest");
        for part in ["bin", "etc", "srv"] {
            fs::create_dir_all(image.join("rootfs").join(part)).unwrap();
        }
        fs::copy(busybox?, image.join("rootfs/bin/busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "id", "ip", "ls", "sleep", "true", "kill"] {
            symlink("busybox", image.join("rootfs/bin").join(applet)).unwrap();
        }
        fs::write(image.join("config.json"), r#"{"Env": ["PATH=/bin", "OF=image"]}"#).unwrap();
        let mut scene = Self { folder, services: None };
        scene.start_services();
        Some(scene)
    }

    fn start_services(&mut self) {
        let mut services = Command::new(self.folder.join("bin/container"));
        let mut services = services.arg("fake-services").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(services.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        self.services = Some(services);
    }

    fn stop_services(&mut self) {
        let mut services = self.services.take().unwrap();
        services.kill().unwrap();
        services.wait().unwrap();
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", self.folder.join("bin").display()))
            .env("HOME", self.folder.join("home"))
            .env("TMPDIR", self.folder.join("tmp"))
            .env("XDG_RUNTIME_DIR", self.folder.join("runtime"))
            // Else one would be started, and keep its folders where no variable leads elsewhere.
            .env("CONTAINER_HOST", "unix:///nowhere/podman.sock")
            .env("AGENTKERNEL_BACKEND", "apple")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn agentkernel(&self, words: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_agentkernel"));
        command.args(words);
        command
    }

    fn run(&self, flags: &[&str], script: &str) -> Output {
        let words = [&["run", "--image", IMAGE], flags, &["--", "sh", "-c", script]].concat();
        self.agentkernel(&words).output().unwrap()
    }

    fn tool(&self, words: &[&str]) -> Output {
        self.command(self.folder.join("bin/container")).args(words).output().unwrap()
    }

    fn mood(&self, mood: &str) {
        fs::write(self.folder.join("mood"), mood).unwrap();
    }

    /// The names of all containers.
    fn containers(&self) -> Vec<String> {
        text(&self.tool(&["list", "--all", "--quiet"]).stdout).lines().map(Into::into).collect()
    }

    /// What was asked of the tool, word by word.
    fn asked(&self, verb: &str) -> Vec<Vec<String>> {
        let all = fs::read_to_string(self.folder.join("asked")).unwrap();
        let all = all.lines().map(|line| serde_json::from_str::<Vec<String>>(line).unwrap());
        all.filter(|words| words[0] == verb).collect()
    }

    /// Waits until no container is there.
    fn await_none(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.containers().iter().any(|name| !name.is_empty()) {
            assert!(Instant::now() < until, "left: {:?}", self.containers());
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.services.is_some() {
            for name in self.containers() {
                self.tool(&["delete", "--force", &name]);
            }
            self.stop_services();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn refuses(got: &Output, words: &[&str]) {
    let errors = text(&got.stderr);
    assert_eq!(got.status.code(), Some(125), "{errors}");
    for word in ["error: ", "hint: "].iter().chain(words) {
        assert!(errors.contains(word), "no {word:?} in {errors}");
    }
}

#[test]
fn a_command_runs_and_its_end_comes_back() {
    let Some(scene) = Scene::new() else { return };
    let got = scene.run(&[], "echo hello; echo $OF; id -u; echo no >&2; exit 7");
    assert_eq!(text(&got.stdout), "hello\nimage\n1000\n", "{}", text(&got.stderr));
    assert_eq!((text(&got.stderr).as_str(), got.status.code()), ("no\n", Some(7)));
    assert_eq!(scene.run(&[], "kill -9 $$").status.code(), Some(137));
    assert_eq!(scene.run(&["--timeout", "500ms"], "sleep 60").status.code(), Some(124));
    let mut cat = scene.agentkernel(&["run", "--image", IMAGE, "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(&[b'x'; 300_000]).unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout.len(), 300_000);
    scene.await_none();
    assert_eq!(fs::read_dir(scene.folder.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_sandbox_without_a_network_has_a_loopback_and_nothing_else() {
    let Some(scene) = Scene::new() else { return };
    let got = text(&scene.run(&["--network", "none"], "ip -o link").stdout);
    assert!(got.contains("lo") && got.lines().count() == 1, "{got}");
    let create = &scene.asked("create")[0];
    assert!(create.windows(2).any(|pair| pair == ["--network", "none"]), "{create:?}");
    // Neither commands nor their variables are seen in anybody's list of processes.
    let all = fs::read_to_string(scene.folder.join("asked")).unwrap();
    scene.run(&["-e", "TOKEN=hush"], "true");
    assert!(!all.contains("ip -o link") && !all.contains("hush"), "{all}");
}

#[test]
fn what_the_tool_cannot_enforce_is_refused_before_anything_is_made() {
    let Some(scene) = Scene::new() else { return };
    for (flags, words) in [
        (&["--pids", "64"][..], "limit pids"),
        (&["--disk", "1g"], "limit disk"),
        (&["--cpus", "1.5"], "whole processors"),
        (&["--memory", "64m"], "200 MiB"),
        (&["--network", "allow=example.org"], "network allow"),
        (&["--project=.:cow"], "mount cow"),
        (&["--project"], "--project=.:ro"),
        (&["-v", "/etc/passwd:/data"], "it is a file"),
        (&["-v", "/tmp:/etc"], "keeps its own"),
        (&["-v", "/tmp:/home/agent"], "keeps its own"),
        (&["-v", "/tmp:/.agentkernel/door"], "keeps its own"),
        (&["-v", "/tmp:/da,ta"], "with a comma"),
        (&["-v", "/tmp:/a", "-v", "/tmp:/b:rw"], "as one of them only"),
        (&["-v", "/tmp:/a", "-v", "/usr:/a/none"], "no such folder"),
        (&["--network", "full", "-p", "1:80"], "no port 1"),
        (&["--network", "full", "-p", "100-164"], "64 ports"),
        (
            &["--network", "full", "-p", "8080:80", "-p", "127.0.0.2:8080:81"],
            "once for all addresses",
        ),
        (&["--strict"], "limit pids"),
    ] {
        refuses(&scene.run(flags, "echo ran"), &[words]);
    }
    assert!(!scene.folder.join("asked").exists() || scene.asked("create").is_empty());
    fs::write(scene.folder.join("Dockerfile"), "FROM localhost/busybox\n").unwrap();
    let build = scene.agentkernel(&["run", "--build=.", "--", "true"]).output().unwrap();
    refuses(&build, &["the apple backend builds no images"]);
    let got = scene.run(&["--pull", "never", "--image", "localhost/none"], "true");
    refuses(&got, &["localhost/none:latest is not here"]);
    refuses(&scene.run(&["--image", "localhost/none"], "true"), &["can't be pulled"]);
}

#[test]
fn folders_of_the_host_are_shown_as_they_were_asked_for() {
    let Some(scene) = Scene::new() else { return };
    let (folder, file) = (scene.folder.join("the data"), scene.folder.join("the data/file"));
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "old\n").unwrap();
    let volume = |access: &str| format!("{}:/data:{access}", folder.display());
    let script = "cat /data/file; echo new > /data/file; ls -ln /data";
    let got = scene.run(&["-v", &volume("ro")], script);
    assert!(text(&got.stdout).starts_with("old\ntotal"), "{got:?}");
    assert!(text(&got.stderr).contains("Read-only file system"), "{got:?}");
    assert!(text(&got.stdout).contains(" 1000     1000 "), "{got:?}");
    assert!(scene.run(&["-v", &volume("rw")], script).status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
    assert!(scene.asked("create").iter().flatten().any(|word| word.ends_with("/data,readonly")));
    // An image's link leads elsewhere than was asked for.
    symlink("srv", scene.folder.join("images/localhost%busybox@latest/rootfs/link")).unwrap();
    let linked = format!("{}:/link/data", folder.display());
    refuses(&scene.run(&["-v", &linked], "echo ran"), &["a link on the way", "/link/data"]);
    scene.await_none();
}

#[test]
fn what_a_tool_has_left_out_is_noticed() {
    let Some(scene) = Scene::new() else { return };
    scene.mood("forgets");
    let got = scene.run(&["-v", "/usr:/data"], "echo ran");
    refuses(&got, &["/usr can't be mounted", "nothing is mounted there"]);
    let got = scene.run(&["--network", "full", "-p", "80"], "echo ran");
    refuses(&got, &["does not have the port 80/tcp"]);
    scene.await_none();
    assert_eq!(fs::read_dir(scene.folder.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_killed_caller_leaves_nothing_that_is_not_swept() {
    let Some(scene) = Scene::new() else { return };
    let mut run = scene.agentkernel(&["run", "--image", IMAGE, "--", "sh", "-c", "echo; sleep 60"]);
    let mut run = run.spawn().unwrap();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    scene.await_none();
    // As if it had been killed right after the container was made.
    let create = scene.asked("create").remove(0);
    let words: Vec<&str> = create.iter().map(String::as_str).collect();
    let folder = words.iter().find_map(|word| word.strip_prefix("type=virtiofs,source=")).unwrap();
    fs::create_dir_all(folder.split(',').next().unwrap()).unwrap();
    assert!(scene.tool(&words).status.success());
    // A user's own, with a label of ours copied.
    let label = words.iter().find(|word| word.starts_with("agentkernel=")).unwrap();
    let own = ["create", "--name", "web", "--label", label, IMAGE, "sleep", "60"];
    assert!(scene.tool(&own).status.success());
    let pruned = scene.agentkernel(&["prune", "-f"]).output().unwrap();
    assert!(pruned.status.success(), "{}", text(&pruned.stderr));
    assert_eq!(scene.containers(), ["web"]);
    assert_eq!(fs::read_dir(scene.folder.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_sandbox_lives_keeps_its_files_and_is_removed() {
    let Some(scene) = Scene::new() else { return };
    let ok = |words: &[&str]| {
        let got = scene.agentkernel(words).output().unwrap();
        assert!(got.status.success(), "{words:?}: {}", text(&got.stderr));
        text(&got.stdout)
    };
    ok(&["create", "box", "--image", IMAGE, "-u", "0"]);
    ok(&["start", "box"]);
    ok(&["exec", "box", "--", "sh", "-c", "echo kept > /srv/file"]);
    ok(&["stop", "box"]);
    ok(&["start", "box"]);
    assert_eq!(ok(&["exec", "box", "--", "cat", "/srv/file"]), "kept\n");
    let got = scene.agentkernel(&["snapshot", "create", "box", "one"]).output().unwrap();
    refuses(&got, &["can't copy"]);
    assert_eq!(scene.containers().len(), 1);
    ok(&["rm", "-f", "box"]);
    scene.await_none();
}

#[test]
fn a_tool_that_is_not_as_it_should_be_is_told_of() {
    let Some(mut scene) = Scene::new() else { return };
    let doctor = |scene: &Scene| {
        let got = text(&scene.agentkernel(&["doctor"]).output().unwrap().stdout);
        got[got.find("apple: ").unwrap()..].to_owned()
    };
    assert!(doctor(&scene).starts_with("apple: ready"), "{}", doctor(&scene));
    for (mood, words) in [
        ("old", "\"0.12.3\", which is too old"),
        ("garbage", "does not answer as Apple's does"),
        ("endless", "more than"),
        ("unregistered", "services of Apple's containers don't run"),
    ] {
        scene.mood(mood);
        let told = doctor(&scene);
        assert!(told.starts_with("apple: not ready") && told.contains(words), "{mood}: {told}");
        match mood {
            "unregistered" => {}
            "old" => refuses(&scene.run(&[], "echo ran"), &["1.2.1 or later"]),
            _ => refuses(&scene.run(&[], "echo ran"), &[words]),
        }
    }
    scene.mood("");
    scene.stop_services();
    assert!(doctor(&scene).contains("`container system start`"), "{}", doctor(&scene));
    refuses(&scene.run(&[], "echo ran"), &["XPC connection error", "`container system start`"]);
    fs::remove_file(scene.folder.join("bin/container")).unwrap();
    let told = doctor(&scene);
    assert!(told.contains("there is no container on the PATH"), "{told}");
}

#[test]
fn a_container_may_be_deleted_under_a_command() {
    let Some(scene) = Scene::new() else { return };
    let mut run = scene.agentkernel(&["run", "--image", IMAGE, "--", "sh", "-c", "echo; sleep 60"]);
    let mut run = run.spawn().unwrap();
    let mut output = BufReader::new(run.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    let name = scene.containers().remove(0);
    assert!(scene.tool(&["delete", "--force", &name]).status.success());
    let got = run.wait_with_output().unwrap();
    assert_eq!(got.status.code(), Some(125), "{}", text(&got.stderr));
}

#[test]
fn the_stand_in_refuses_what_the_tool_refuses() {
    let Some(scene) = Scene::new() else { return };
    let missing = "Error: Missing expected argument '<image>'";
    for (words, status, says) in [
        (&["frobnicate"][..], 64, "not found"),
        (&["create", "--pids-limit", "3", IMAGE], 64, "Unknown option '--pids-limit'"),
        (&["create", "--security-opt=x", IMAGE], 64, "Unknown option"),
        (&["create", "--cpus", "1.5", IMAGE], 64, "The value '1.5' is invalid for '--cpus"),
        (&["create", "--rm=yes", IMAGE], 64, "does not take any value"),
        (&["create", "--name"], 64, "Missing value for '--name"),
        (&["create", "--rm"], 64, missing),
        (&["create", "--no-dns", "--dns", "1.1.1.1", IMAGE], 64, "`--no-dns` cannot be used"),
        (&["create", "--name", "a", IMAGE, "sh"], 1, "not a valid container ID"),
        (&["create", "--label", "a=b=c", IMAGE, "sh"], 1, "invalid label format"),
        (
            &["create", "--memory", "64M", IMAGE, "sh"],
            1,
            "minimum memory amount allowed is 200 MiB",
        ),
        (
            &["create", "--network", "none", "--network", "default", IMAGE, "sh"],
            1,
            "no other networks",
        ),
        (&["create", "--cap-add", "CAP_NOTHING", IMAGE, "sh"], 1, "capability"),
        (&["create", "--read-only-path", "dev", IMAGE, "sh"], 1, "path must be absolute"),
        (
            &["create", "--mount", "type=virtiofs,source=/none,target=/a", IMAGE, "sh"],
            1,
            "not exist",
        ),
        (
            &["create", "--mount", "type=virtiofs,source=/etc/passwd,target=/a", IMAGE, "sh"],
            1,
            "is not a directory",
        ),
        (&["create", "--mount", "type=tmpfs,source=/tmp,target=/a", IMAGE, "sh"], 1, "tmpfs mount"),
        (
            &["create", "--mount", "type=tmpfs,cow,target=/a", IMAGE, "sh"],
            1,
            "unknown directive cow",
        ),
        (
            &["create", "--mount", "target=/a", IMAGE, "sh"],
            1,
            "is not an absolute path on the host",
        ),
        (&["create", "-p", "80", IMAGE, "sh"], 1, "invalid publish value: 80"),
        (&["create", "-p", "0:80", IMAGE, "sh"], 1, "invalid publish host port range: 0"),
        (&["create", "-p", "80:1", IMAGE, "sh"], 1, "invalid publish container port range: 1"),
        (&["create", "-p", "80:80/sctp", IMAGE, "sh"], 1, "invalid publish protocol: sctp"),
        (&["create", "-p", "localhost:80:80", IMAGE, "sh"], 1, "invalid publish IPv4 address"),
        (&["create", "-p", "[1.2.3.4]:80:80", IMAGE, "sh"], 1, "invalid publish IPv6 address"),
        (&["create", "-p", "80-82:80-81", IMAGE, "sh"], 1, "counts are not equal"),
        (&["create", "-p", "80:80", "-p", "127.0.0.1:80:81", IMAGE, "sh"], 1, "may not overlap"),
        (&["create", IMAGE], 1, "command/entrypoint not specified"),
        (&["create", "localhost/none", "sh"], 1, "not found"),
        (&["start", "none"], 1, "container none not found"),
        (&["exec", "none", "sh"], 1, "container none not found"),
        (&["delete", "none"], 1, "container with ID none not found"),
        (&["delete"], 1, "no containers specified"),
        (&["inspect", "none"], 1, "container not found: none"),
        (&["image", "inspect", "none"], 1, "image not found: none"),
        (&["list", "--format", "xml"], 64, "The value 'xml' is invalid"),
        (&["system", "status", "now"], 64, "Unexpected argument 'now'"),
    ] {
        let got = scene.tool(words);
        let errors = text(&got.stderr);
        assert_eq!(got.status.code(), Some(status), "{words:?}: {errors}");
        assert!(errors.contains(says), "{words:?}: {errors}");
    }
    assert!(scene.tool(&["create", "--name", "own", IMAGE, "sleep", "60"]).status.success());
    let again = scene.tool(&["create", "--name", "own", IMAGE, "sh"]);
    assert!(text(&again.stderr).contains("already exists: own"));
    assert!(text(&scene.tool(&["exec", "own", "sh"]).stderr).contains("own is not running"));
    assert!(scene.tool(&["start", "own"]).status.success());
    assert!(scene.tool(&["start", "own"]).status.success(), "to start what runs changes nothing");
    let refused = scene.tool(&["delete", "own"]);
    assert!(text(&refused.stderr).contains("own is running and can not be deleted"));
    assert!(scene.tool(&["delete", "--force", "own"]).status.success());
}
