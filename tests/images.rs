//! Images without a container engine, as somebody has them who works with them: brought in, named,
//! run, and cleared away.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agentkernel_images::{Digest, Images};
use agentkernel_root_image::{FILE_SYSTEM, RootImage, make};
use agentkernel_sys::mount;
use agentkernel_sys::process::{self, Namespaces};
use agentkernel_testkit::{Caller, Captured, Program, Scratch, Subject};
use serde_json::Value;

/// A program that is still being written can't be started, and whoever starts another one meanwhile
/// has it open for a moment.
static TURN: Mutex<()> = Mutex::new(());

/// The program in a folder that everybody can reach, while no other test has one.
fn program() -> (Program, MutexGuard<'static, ()>) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (Program::copy_of(Path::new(env!("CARGO_BIN_EXE_agentkernel"))).unwrap(), turn)
}

/// One kind of caller with a home.
struct Home {
    subject: Subject,
    /// The backends that run modules here.
    runners: Vec<String>,
    scratch: Scratch,
}

impl Home {
    /// One for each caller that there can be; none where images can't be brought in.
    fn all(program: &Program) -> Vec<Self> {
        if !program.path().with_file_name("agentkerneld").exists() {
            println!("skipped: there is no agentkerneld beside agentkernel");
            return Vec::new();
        }
        let home = |caller| {
            let all = Subject::all(program.path(), caller).unwrap();
            let runners = all.iter().filter(|one| one.runs_modules() && one.unavailable.is_none());
            let runners = runners.map(|one| one.backend.clone()).collect();
            let subject = all.into_iter().find(|subject| subject.backend == "native").unwrap();
            let scratch = subject.scratch().unwrap();
            Self { subject, runners, scratch }
        };
        Caller::all().into_iter().map(home).collect()
    }

    fn run(&self, words: &[&str]) -> Captured {
        let mut command = self.subject.agentkernel(&self.scratch);
        command.args(words);
        self.subject.caller.become_in(&mut command);
        Captured::of(command).unwrap()
    }

    fn printed(&self, words: &[&str]) -> String {
        let got = self.run(words);
        String::from_utf8(got.exits(0).unwrap().stdout.clone()).unwrap()
    }

    /// A folder in which commands run, or below that.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.scratch.path().join("work").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A layout of an image with a static busybox in it, and this configuration.
    fn layout(&self, busybox: &Path, config: &str) -> String {
        let root = self.folder("layout/root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.packed("layout", &root, &format!("linux/{architecture}"), config)
    }

    /// A layout of an image of what is in a folder.
    fn packed(&self, name: &str, root: &Path, platform: &str, config: &str) -> String {
        let layer = self.folder("").join("layer.tar");
        done(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&layer).arg("."));
        let layer = fs::read(&layer).unwrap();
        let (os, architecture) = platform.split_once('/').unwrap();
        let said = format!(
            r#"{{"architecture":"{architecture}","os":"{os}","config":{config},
               "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            digest(&layer)
        );
        let kind = |what: &str| format!("application/vnd.oci.image.{what}");
        self.artifact(name, (&kind("config.v1+json"), &said), (&kind("layer.v1.tar"), layer))
    }

    /// A layout of a manifest with this configuration and layer, each of its kind.
    fn artifact(&self, name: &str, config: (&str, &str), layer: (&str, Vec<u8>)) -> String {
        let layout = self.folder(name);
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let kept = |kind: &str, content: Vec<u8>| {
            let (digest, size) = (digest(&content), content.len());
            fs::write(layout.join("blobs/sha256").join(&digest["sha256:".len()..]), content)
                .unwrap();
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let (config, layer) = (kept(config.0, config.1.into()), kept(layer.0, layer.1));
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layer}]}}"#
        );
        let manifest = kept(kind, manifest.into_bytes());
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#);
        fs::write(layout.join("index.json"), index).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        format!("oci:{}", layout.display())
    }
}

fn digest(content: &[u8]) -> String {
    Digest::of(content).to_string()
}

fn done(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A busybox that needs no library.
fn busybox() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join("busybox"));
    let found = found.into_iter().find(|path| path.is_file())?;
    let linked = Command::new("ldd").arg(&found).output().ok()?.status.success();
    (!linked).then_some(found)
}

#[test]
fn an_image_says_what_runs_in_it_and_flags_say_otherwise() {
    let Some(busybox) = busybox() else { return println!("skipped: there is no static busybox") };
    let (program, _turn) = program();
    for home in Home::all(&program) {
        let layout = home.layout(
            &busybox,
            r#"{"Entrypoint":["/bin/busybox"],"Cmd":["echo","of","the","image"],
                "Env":["WORD=image"],"WorkingDir":"/bin","User":"7:8"}"#,
        );
        let digest = home.printed(&["image", "import", &layout, "said:1"]);
        assert!(digest.starts_with("sha256:"), "{digest}");
        let run = |words: &[&str]| home.printed(&[&["run", "--image", "said:1"], words].concat());
        assert_eq!(run(&[]), "of the image\n");
        assert_eq!(run(&["--", "echo", "mine"]), "mine\n");
        assert_eq!(run(&["--entrypoint", "", "--", "/bin/busybox", "echo", "bare"]), "bare\n");
        assert_eq!(run(&["--entrypoint", "/bin/busybox", "--", "pwd"]), "/bin\n");
        assert_eq!(run(&["-w", "/", "--", "pwd"]), "/\n");
        let script = "echo $WORD $(busybox id -u) $(busybox id -g)";
        let shell = ["--entrypoint", "/bin/busybox", "-e", "PATH=/bin", "--", "sh", "-c", script];
        assert_eq!(run(&shell), "image 7 8\n");
        let other = [&["-e", "WORD=mine", "-u", "9:10"], &shell[..]].concat();
        assert_eq!(run(&other), "mine 9 10\n");
        // A command in a sandbox that lives is what it is, and the sandbox keeps its image.
        home.printed(&["create", "--start", "--image", "said:1", "box"]);
        home.printed(&["image", "import", "rootfs:layout/root", "said:1"]);
        let exec = ["exec", "box", "--", "/bin/busybox", "sh", "-c", "echo $WORD"];
        assert_eq!(home.printed(&exec), "image\n");
        home.printed(&["stop", "box"]);
        home.printed(&["start", "box"]);
        assert_eq!(home.printed(&exec), "image\n");
        home.printed(&["rm", "-f", "box"]);
    }
}

#[test]
fn an_image_stays_for_as_long_as_something_is_made_of_it() {
    let Some(busybox) = busybox() else { return println!("skipped: there is no static busybox") };
    let (program, _turn) = program();
    for home in Home::all(&program) {
        let layout = home.layout(&busybox, "{}");
        let digest = home.printed(&["image", "import", &layout, "one:1"]);
        let digest = digest.trim();
        home.printed(&["image", "tag", "one:1", "two"]);
        let listed = home.printed(&["image", "ls"]);
        assert!(listed.contains("one:1") && listed.contains("two:latest"), "{listed}");
        home.printed(&["create", "--image", "two", "box"]);
        home.printed(&["image", "rm", "one:1"]);
        let refused = home.run(&["image", "rm", "two"]);
        refused.exits(125).unwrap().mentions("the sandbox box").unwrap();
        home.printed(&["image", "rm", "-f", "two"]);
        let left = home.printed(&["image", "ls", "-q"]);
        assert_eq!(left.trim(), &digest["sha256:".len()..][..12], "it is in use");
        home.printed(&["image", "prune", "-f", "-a"]);
        home.printed(&["start", "box"]);
        let exec = ["exec", "box", "--", "/bin/busybox", "echo", "here"];
        assert_eq!(home.printed(&exec), "here\n");
        home.printed(&["rm", "-f", "box"]);
        assert_eq!(home.printed(&["image", "prune", "-f"]).trim(), digest);
        assert_eq!(home.printed(&["image", "ls", "-q"]), "");
        let layers = home.scratch.path().join("home/.local/share/agentkernel/images/layers");
        assert_eq!(fs::read_dir(layers).unwrap().count(), 0);
    }
}

/// What a microVM has of an image that was imported.
#[test]
fn a_root_image_is_made_of_what_was_imported_and_goes_with_it() {
    let Some(busybox) = busybox() else { return println!("skipped: there is no static busybox") };
    let (program, _turn) = program();
    let homes = Home::all(&program);
    let Some(home) = homes.into_iter().find(|home| home.subject.caller == Caller::Me) else {
        return;
    };
    let layout = home.layout(&busybox, "{}");
    home.printed(&["image", "import", &layout, "root:1"]);
    let size = |name: &str| {
        let inspected: Value =
            serde_json::from_str(&home.printed(&["image", "inspect", "root:1"])).unwrap();
        inspected["images"][0][name].as_u64().unwrap()
    };
    let images = Images::at(home.scratch.path().join("home/.local/share/agentkernel/images"));
    let image = images.open("root:1").unwrap().unwrap();
    let before = size("bytes");
    let root = make(&images, &image).unwrap();
    let taken = root.file().metadata().unwrap().blocks() * 512;
    assert!(taken > busybox.metadata().unwrap().len());
    assert_eq!((size("bytes"), size("own_bytes")), (before + taken, before + taken));
    match runs_in(&home, &root) {
        Ok(said) => assert_eq!(said, "in the image\n"),
        Err(why) => println!("skipped: {why}"),
    }
    let removed = home.printed(&["image", "rm", "root:1"]);
    assert_eq!(removed.trim(), "root:1");
    assert!(root.path().exists(), "it is held");
    drop(image);
    home.printed(&["image", "prune", "-f"]);
    assert!(!root.path().exists());
}

/// What the image's busybox says in the root image as the kernel has it, or why it can't be mounted.
fn runs_in(home: &Home, root: &RootImage) -> Result<String, String> {
    if !home.subject.caller.is_root() {
        return Err("only root can mount".into());
    }
    // It goes with the test, whatever that is ended by.
    process::unshare(Namespaces::MOUNT).unwrap();
    mount::make_private().unwrap();
    let at = home.scratch.folder("work/mounted").unwrap();
    let mut command = Command::new("mount");
    command.args(["-t", FILE_SYSTEM, "-o", "loop,ro"]).arg(root.path()).arg(&at);
    let mounted = command.output().unwrap();
    if !mounted.status.success() {
        return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
    }
    let mut run = Command::new("chroot");
    let said = run.arg(&at).args(["/bin/busybox", "echo", "in the image"]).output().unwrap();
    done(Command::new("umount").arg(&at));
    Ok(String::from_utf8(said.stdout).unwrap())
}

#[test]
fn a_name_that_has_come_to_stand_for_another_image_is_pulled_anew_if_that_is_asked_for() {
    // The lane of containers has another one, with fewer images.
    let found =
        std::env::var("TESTKIT_REGISTRY_LOG").and_then(|_| std::env::var("TESTKIT_REGISTRY"));
    let Ok(registry) = found else {
        return println!("skipped: no registries are there, see scripts/lanes/registry.sh");
    };
    let (program, _turn) = program();
    let name = format!("{registry}/moving-{}:1", std::process::id());
    let becomes = |image: &str| {
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]);
        copy.arg(format!("docker://{registry}/{image}")).arg(format!("docker://{name}"));
        done(&mut copy);
    };
    for home in Home::all(&program) {
        becomes("agentkernel-busybox:1");
        let first = home.printed(&["image", "pull", &name]);
        home.printed(&["create", "--image", &name, "old"]);
        becomes("agentkernel-test:1");
        let stands_for = || home.printed(&["image", "inspect", &name]);
        let run = |pull: &str| {
            home.printed(&["run", "--pull", pull, "--image", &name, "--", "echo", "here"]);
        };
        run("missing");
        assert!(stands_for().contains(first.trim()));
        run("always");
        assert!(!stands_for().contains(first.trim()));
        // What was made of the first one is still of that.
        assert!(home.printed(&["inspect", "old"]).contains(first.trim()));
        becomes("agentkernel-busybox:1");
        home.printed(&["create", "--pull", "always", "--image", &name, "new"]);
        assert!(home.printed(&["inspect", "new"]).contains(first.trim()));
        home.printed(&["rm", "old", "new"]);
    }
}

/// One of the suites' modules, in binary form.
fn module(name: &str) -> Vec<u8> {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/testkit/modules");
    wat::parse_file(text.join(format!("{name}.wat"))).unwrap()
}

const ARTIFACT: (&str, &str) =
    ("application/vnd.wasm.config.v0+json", r#"{"os":"wasip1","architecture":"wasm"}"#);

#[test]
fn a_module_that_a_registry_could_have_runs_by_its_name() {
    let (program, _turn) = program();
    for home in Home::all(&program) {
        let wasm = |name: &str| ("application/wasm", module(name));
        let old = ("application/vnd.wasm.content.layer.v1+wasm", module("args"));
        let root = home.folder("root");
        fs::create_dir(root.join("bin")).unwrap();
        fs::write(root.join("bin/args.wasm"), module("args")).unwrap();
        let packed = r#"{"Entrypoint":["bin/args.wasm","-x"],"Cmd":["own"]}"#;
        for (name, layout, by_itself) in [
            ("new", home.artifact("new", ARTIFACT, wasm("args")), ""),
            ("old", home.artifact("old", ("application/vnd.wasm.config.v1+json", "{}"), old), ""),
            ("packed", home.packed("packed", &root, "wasi/wasm", packed), "-x\0own\0"),
        ] {
            let digest = home.printed(&["image", "import", &layout, &format!("x/{name}:1")]);
            let words = by_itself.replace("own\0", "");
            for image in [format!("x/{name}:1"), format!("x/{name}@{}", digest.trim())] {
                let run =
                    |flags: &[&str]| home.printed(&[&["run", "--image", &image], flags].concat());
                // Without a backend it is the first that runs modules.
                assert_eq!(run(&[]), format!("{name}\0{by_itself}"));
                for backend in &home.runners {
                    let run = |more: &[&str]| run(&[&["-B", backend], more].concat());
                    assert_eq!(run(&[]), format!("{name}\0{by_itself}"));
                    assert_eq!(run(&["a", "--", "b"]), format!("{name}\0{words}a\0--\0b\0"));
                }
            }
        }
        let layout = home.artifact("math", ARTIFACT, wasm("math"));
        home.printed(&["image", "import", &layout, "x/math"]);
        let add = ["run", "--invoke", "add", "--image", "x/math", "2", "3"];
        assert_eq!(home.printed(&add), "5\n");
        let inspected = home.printed(&["image", "inspect", "x/math"]);
        assert!(inspected.contains(r#""module":true"#), "{inspected}");
        assert!(home.printed(&["image", "ls"]).contains("wasip1/wasm"));
    }
}

#[test]
fn what_an_image_says_goes_to_its_module_too() {
    let (program, _turn) = program();
    for home in Home::all(&program) {
        let root = home.folder("root");
        fs::write(root.join("environ.wasm"), module("environ")).unwrap();
        let config = r#"{"Entrypoint":["/environ.wasm"],"Env":["A=image","B=image"]}"#;
        let layout = home.packed("environ", &root, "wasi/wasm", config);
        home.printed(&["image", "import", &layout, "environ"]);
        for backend in &home.runners {
            let run = ["run", "-B", backend, "-e", "B=mine", "-e", "C=mine", "--image", "environ"];
            let mut got: Vec<_> =
                home.printed(&run).split_terminator('\0').map(str::to_owned).collect();
            got.sort();
            assert_eq!(got, ["A=image", "B=mine", "C=mine"], "{backend}");
        }
    }
}

#[test]
fn a_module_of_the_store_lives_and_stays_for_as_long_as_something_is_made_of_it() {
    let (program, _turn) = program();
    for home in Home::all(&program) {
        let wasm = |name: &str| ("application/wasm", module(name));
        let digest =
            home.printed(&["image", "import", &home.artifact("a", ARTIFACT, wasm("args")), "m:1"]);
        for backend in &home.runners {
            home.printed(&["create", "--start", "-B", backend, "--image", "m:1", "box"]);
            let exec = ["exec", "box", "--", "a"];
            assert_eq!(home.printed(&exec), "m\0a\0");
            // It is what it was, whatever its name comes to stand for.
            home.printed(&["image", "import", &home.artifact("b", ARTIFACT, wasm("hello")), "m:1"]);
            assert_eq!(home.printed(&["run", "--image", "m:1"]), "hello\n");
            home.printed(&["stop", "box"]);
            home.printed(&["start", "box"]);
            assert_eq!(home.printed(&exec), "m\0a\0");
            assert!(home.printed(&["inspect", "box"]).contains(digest.trim()));
            let refused = home.run(&["image", "rm", digest.trim()]);
            refused.exits(125).unwrap().mentions("the sandbox box").unwrap();
            home.printed(&["rm", "-f", "box"]);
            home.printed(&["image", "import", &home.artifact("a", ARTIFACT, wasm("args")), "m:1"]);
        }
        home.printed(&["daemon", "start", "-b"]);
        home.printed(&["pool", "set", "any", "1", "-B", "wasm"]);
        let is_pooled = |_| {
            home.printed(&["run", "--image", "m:1", "--report", "report", "--", "a"]) == "m\0a\0"
                && fs::read_to_string(home.scratch.path().join("work/report"))
                    .unwrap_or_default()
                    .contains(r#""kind":"pool""#)
        };
        assert!((0..200).any(is_pooled), "no pool served it");
        home.printed(&["daemon", "stop"]);
        home.printed(&["image", "rm", "-f", "m:1"]);
        assert_eq!(home.printed(&["image", "prune", "-f", "-a"]).lines().count(), 1);
        let layers = home.scratch.path().join("home/.local/share/agentkernel/images/layers");
        assert_eq!(fs::read_dir(layers).unwrap().count(), 0);
    }
}

#[test]
fn a_module_and_an_image_of_programs_are_told_apart() {
    let Some(busybox) = busybox() else { return println!("skipped: there is no static busybox") };
    let (program, _turn) = program();
    for home in Home::all(&program) {
        home.printed(&["image", "import", &home.layout(&busybox, "{}"), "programs:1"]);
        let layout = home.artifact("args", ARTIFACT, ("application/wasm", module("args")));
        home.printed(&["image", "import", &layout, "args:1"]);
        let says = |words: &[&str], why: &str, hint: &str| {
            let got = home.run(words);
            got.exits(125).unwrap().mentions(why).unwrap().mentions(hint).unwrap();
        };
        let why = "programs:1 is an image of Linux programs, not a module";
        for verb in [&["run"][..], &["create"]] {
            let words = [verb, &["-B", "wasm", "--image", "programs:1"]].concat();
            says(&words, why, "use -B native");
            let words = [verb, &["-B", "native", "--image", "args:1"]].concat();
            says(&words, "args:1 is a WebAssembly module", "use -B wasm");
        }
        let run = ["run", "--entrypoint", "sh", "--image", "args:1"];
        says(&run, "its own entrypoint", "leave out --entrypoint");
        let gone = ["run", "-B", "wasm", "--pull", "never", "--image", "gone:1"];
        says(&gone, "gone:1 is not here", "agentkernel image pull gone:1");
        let layout = home.artifact("none", ARTIFACT, ("application/wasm", b"\x7fELF".to_vec()));
        let import = ["image", "import", &layout];
        says(&import, "does not begin as WebAssembly does", "one layer application/wasm");
        assert!(!home.printed(&["image", "ls"]).contains("none"));
    }
}

#[test]
fn a_module_in_a_registry_is_fetched_by_its_name() {
    let found =
        std::env::var("TESTKIT_REGISTRY_LOG").and_then(|_| std::env::var("TESTKIT_REGISTRY"));
    let Ok(registry) = found else {
        return println!("skipped: no registries are there, see scripts/lanes/registry.sh");
    };
    let (program, _turn) = program();
    for home in Home::all(&program) {
        let repository = format!("{registry}/module-{}", std::process::id());
        let push = |tag: &str, layout: String| {
            let mut copy = Command::new("skopeo");
            copy.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
            done(copy.arg(layout).arg(format!("docker://{repository}:{tag}")));
            format!("{repository}:{tag}")
        };
        let artifact =
            |name: &str| home.artifact(name, ARTIFACT, ("application/wasm", module(name)));
        let one = push("one", artifact("args"));
        let prune = || home.printed(&["image", "prune", "-f", "-a"]);
        let expected = format!("module-{}\0a\0", std::process::id());
        // Whether somebody says what it is or not.
        assert_eq!(home.printed(&["run", "--image", &one, "--", "a"]), expected);
        let digest = prune();
        let by_digest = format!("{repository}@{}", digest.trim());
        for backend in &home.runners {
            for image in [&one, &by_digest] {
                let run = ["run", "-B", backend, "--image", image, "--", "a"];
                assert_eq!(home.printed(&run), expected);
                prune();
            }
        }
        assert_eq!(home.printed(&["image", "pull", &one]), digest);
        prune();
        let component = push("component", artifact("component"));
        let run = ["run", "-B", "wasm", "--image", &component];
        assert_eq!(home.printed(&run), "hello from a component\n");
        let moving = push("moving", artifact("args"));
        home.printed(&["create", "--image", &moving, "old"]);
        push("moving", artifact("hello"));
        let always = ["run", "--pull", "always", "--image", &moving];
        assert_eq!(home.printed(&always), "hello\n");
        home.printed(&["start", "old"]);
        assert!(home.printed(&["exec", "old"]).starts_with("module-"));
        home.printed(&["rm", "-f", "old"]);
        let programs = format!("{registry}/agentkernel-busybox:1");
        let refused = home.run(&["run", "-B", "wasm", "--image", &programs]);
        let refused = refused.exits(125).unwrap();
        refused.mentions("image of Linux programs, not a module").unwrap();
        refused.mentions("use -B native").unwrap();
        let refused = home.run(&["run", "-B", "native", "--image", &one]);
        let refused = refused.exits(125).unwrap();
        refused.mentions("is a WebAssembly module").unwrap().mentions("use -B wasm").unwrap();
    }
}

#[test]
fn an_image_is_built_by_an_engine_that_is_there() {
    let Ok(base) = std::env::var("TESTKIT_IMAGE") else {
        return println!("skipped: no image is named by TESTKIT_IMAGE");
    };
    let (program, _turn) = program();
    for home in Home::all(&program) {
        let folder = home.scratch.folder("work/build").unwrap();
        let text = format!("FROM {base}\nRUN echo built > /made\nENV WORD=built\n");
        fs::write(folder.join("Dockerfile"), text).unwrap();
        let name = format!("localhost/agentkernel-images-{}", std::process::id());
        home.printed(&["image", "build", "build", &name]);
        let run = ["run", "--image", &name, "--", "sh", "-c", "cat /made; echo $WORD"];
        assert_eq!(home.printed(&run), "built\nbuilt\n");
        let run = ["run", "--build=build", "--", "cat", "/made"];
        assert_eq!(home.printed(&run), "built\n");
        // What was built before is no obstacle.
        fs::write(folder.join("Dockerfile"), format!("FROM {base}\nRUN echo anew > /made\n"))
            .unwrap();
        assert_eq!(home.printed(&run), "anew\n");
        for engine in ["docker", "podman"] {
            // Whichever has built it; the other has none of that name.
            let mut remove = Command::new(engine);
            remove.args(["rmi", "-f", &name]).envs(home.subject.engine());
            home.subject.caller.become_in(&mut remove);
            let _ = remove.output();
        }
    }
}
