//! What is in a jail, with this test program as what is jailed: it is static, and can tell.

use std::env;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Files to be shown, removed with this.
struct Scene(PathBuf);

impl Scene {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("agentkernel-jail-{}-{count}", std::process::id());
        let scene = Self(env::temp_dir().join(folder));
        fs::create_dir(&scene.0).unwrap();
        fs::create_dir(scene.0.join("own")).unwrap();
        fs::create_dir(scene.0.join("saved")).unwrap();
        for name in ["kernel", "disk"] {
            fs::write(scene.0.join(name), name).unwrap();
        }
        scene
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the test `name` below says in a jail of this `kind`, or why there is no such jail here.
fn inside(kind: Kind, name: &str) -> Result<String, io::Error> {
    let scene = Scene::new();
    let mut jail = Jail::new(kind, &scene.0.join("own"))?;
    jail.show(&scene.0.join("kernel"), "kernel")?;
    jail.show_to_write(&scene.0.join("disk"), "disk0")?;
    jail.show_to_write(&scene.0.join("saved"), "golden")?;
    let (output, written) = descriptor::pipe()?;
    let name = format!("jail::tests::{name}");
    let arguments = ["--ignored", "--exact", "--nocapture", "--test-threads=1", &name];
    let child = jail.start(&env::current_exe()?, &arguments, written)?;
    let mut text = String::new();
    File::from(output).read_to_string(&mut text)?;
    assert_eq!(child.wait()?.status(), Ok(0), "{text}");
    Jail::take_back(kind, &scene.0.join("saved"))?;
    let written = scene.0.join("saved/file").metadata()?;
    assert_eq!(written.uid(), identity::effective().0);
    assert!(scene.0.join("own/file").exists());
    Ok(text)
}

/// Those that can be had here, the reason where one can't.
fn possible() -> Vec<Kind> {
    let kinds: &[Kind] = match Kind::possible() {
        Kind::Stranger => &[Kind::Stranger, Kind::Caller],
        Kind::Caller => &[Kind::Caller],
        Kind::None => &[],
    };
    let has_kvm = Path::new(KVM).exists();
    if kinds.is_empty() || !has_kvm {
        eprintln!("skipped: there are neither user namespaces nor root here, or no {KVM}");
    }
    kinds.iter().copied().filter(|_| has_kvm).collect()
}

#[test]
fn nothing_is_in_it_but_what_was_shown() {
    for kind in possible() {
        let text = inside(kind, "look_around").unwrap();
        let said = |words: &str| assert!(text.contains(words), "{kind:?}: no {words} in {text}");
        said("root: dev disk0 firecracker golden kernel own\n");
        said("devices: kvm\n");
        said("process 1\n");
        said("kernel: can be read, and not written\n");
        said("root, kernel's neighbours: can't be written\n");
        said("kvm: can be opened\n");
        said("network: unreachable\n");
        match kind {
            Kind::Stranger => said(&format!("user {}\n", STRANGERS + std::process::id())),
            _ => said(&format!("user {}\n", identity::effective().0)),
        }
    }
}

#[test]
#[ignore = "it is what is started in a jail"]
fn look_around() {
    let names = |path: &str| {
        let entries = fs::read_dir(path).unwrap();
        let mut all: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all.join(" ")
    };
    println!("\nroot: {}", names("/"));
    println!("devices: {}", names("/dev"));
    println!("process {}", std::process::id());
    println!("user {}", identity::effective().0);
    assert_eq!(fs::read_to_string("/kernel").unwrap(), "kernel");
    fs::write("/kernel", "").unwrap_err();
    println!("kernel: can be read, and not written");
    fs::write("/file", "").unwrap_err();
    fs::write("/dev/file", "").unwrap_err();
    fs::remove_file("/kernel").unwrap_err();
    println!("root, kernel's neighbours: can't be written");
    fs::write("/disk0", "another").unwrap();
    fs::write("/golden/file", "").unwrap();
    // Where it works.
    fs::write("file", "").unwrap();
    File::options().read(true).write(true).open("/dev/kvm").unwrap();
    println!("kvm: can be opened");
    TcpStream::connect("127.0.0.1:1").unwrap_err();
    TcpStream::connect("192.0.2.1:1").unwrap_err();
    println!("network: unreachable");
    // Neither a mount nor another user, though it may be user 0.
    mount::mount(c"tmpfs", c"/own", Restrictions::NONE, c"").unwrap_err();
    identity::become_user(1, 1, true).unwrap_err();
    assert!(process::fork(Namespaces::NETWORK, None).is_err());
}

#[test]
fn why_it_does_not_start_is_told() {
    for kind in [Kind::None].into_iter().chain(possible()) {
        let scene = Scene::new();
        let jail = Jail::new(kind, &scene.0.join("own")).unwrap();
        let (_output, written) = descriptor::pipe().unwrap();
        let told = jail.start(&scene.0.join("kernel"), &[], written).unwrap_err().to_string();
        assert!(told.contains("can't be executed") && told.contains("ermission denied"), "{told}");
        let told = Jail::new(kind, &scene.0.join("nowhere")).err().unwrap().to_string();
        assert!(told.contains("nowhere") || kind == Kind::Stranger, "{told}");
        let mut jail = Jail::new(kind, &scene.0.join("own")).unwrap();
        let told = jail.show(&scene.0.join("none"), "kernel").unwrap_err().to_string();
        assert!(told.contains("none: No such file"), "{told}");
    }
}

#[test]
fn who_is_jailed_ends_with_whoever_has_jailed_it() {
    for kind in possible() {
        let scene = Scene::new();
        let own = scene.0.join("own");
        let (output, written) = descriptor::pipe().unwrap();
        let start = move || {
            let arguments =
                ["--ignored", "--exact", "--test-threads=1", "jail::tests::wait_for_the_end"];
            let jail = Jail::new(kind, &own).unwrap();
            jail.start(&env::current_exe().unwrap(), &arguments, written).unwrap()
        };
        let child = std::thread::spawn(start).join().unwrap();
        // The thread is gone.
        assert_eq!(child.wait().unwrap().status(), Err(9));
        drop(output);
    }
}

#[test]
#[ignore = "it is what is started in a jail"]
fn wait_for_the_end() {
    loop {
        std::thread::park();
    }
}
