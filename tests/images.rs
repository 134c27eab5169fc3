//! Images without a container engine, as somebody has them who works with them: brought in, named,
//! run, and cleared away.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agentkernel_images::Images;
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
            let subject = all.into_iter().find(|subject| subject.backend == "native").unwrap();
            let scratch = subject.scratch().unwrap();
            Self { subject, scratch }
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

    /// A layout of an image with a static busybox in it, and this configuration.
    fn layout(&self, busybox: &Path, config: &str) -> String {
        let layout = self.scratch.folder("work/layout").unwrap();
        let root = self.scratch.folder("work/layout/root").unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let layer = layout.join("layer.tar");
        done(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&layer).arg("."));
        let (diff, size) = keep(&layout, fs::read(&layer).unwrap());
        let kind = "application/vnd.oci.image";
        let said = format!(
            r#"{{"architecture":"ARCH","os":"linux","config":{config},
               "rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
        );
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let (config, length) = keep(&layout, said.replace("ARCH", architecture).into_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json",
               "config":{{"mediaType":"{kind}.config.v1+json","digest":"{config}","size":{length}}},
               "layers":[{{"mediaType":"{kind}.layer.v1.tar","digest":"{diff}","size":{size}}}]}}"#
        );
        let (manifest, length) = keep(&layout, manifest.into_bytes());
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json",
               "digest":"{manifest}","size":{length}}}]}}"#
        );
        fs::write(layout.join("index.json"), index).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        format!("oci:{}", layout.display())
    }
}

/// Keeps a blob in a layout, and tells its digest and length.
fn keep(layout: &Path, content: Vec<u8>) -> (String, usize) {
    let draft = layout.join("draft");
    fs::write(&draft, &content).unwrap();
    let said = Command::new("sha256sum").arg(&draft).output().unwrap().stdout;
    let digest = String::from_utf8(said).unwrap()[..64].to_owned();
    fs::rename(&draft, layout.join("blobs/sha256").join(&digest)).unwrap();
    (format!("sha256:{digest}"), content.len())
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
