//! With a Firecracker that has no machines, and is stricter than the real one.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::*;
use crate::scene::Scene;

impl Scene {
    fn golden(&self, kind: &str) -> (Plan, Golden) {
        fs::write(self.0.join("kernel"), format!("\x7fELF{kind}")).unwrap();
        let mut plan = self.plan();
        let golden = Golden::of(&plan, Making::default(), Setting::default(), &self.0).unwrap();
        plan.golden = Some(golden.clone());
        (plan, golden)
    }
}

/// What tells whether it was made anew.
fn made(golden: &Golden) -> SystemTime {
    fs::metadata(&golden.folder).unwrap().modified().unwrap()
}

fn answers(machine: &Machine) -> bool {
    let host = machine.connect().unwrap();
    obeyed(&host, &Order::Make(Making::default())).is_ok()
}

/// All that is in the folder of golden machines, by name.
fn kept(scene: &Scene) -> Vec<String> {
    let entries = fs::read_dir(scene.0.join(FOLDER)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// What is swept, once nobody has the turn: what another test starts has it, too, for a moment.
fn swept(scene: &Scene) -> PathBuf {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match sweep(&scene.0).pop() {
            Some(swept) => return swept,
            None => assert!(Instant::now() < until, "{:?}", kept(scene)),
        }
        thread::yield_now();
    }
}

#[test]
fn many_at_once_are_copies_of_one() {
    let scene = Scene::of("obeys");
    let (plan, golden) = scene.golden("obeys");
    let all = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let copy = copy(&plan, &golden);
                all.wait();
                // A machine ends with the thread that has it.
                assert!(answers(&copy.unwrap()));
                all.wait();
            });
        }
    });
    let first = made(&golden);
    assert!(answers(&copy(&plan, &golden).unwrap()));
    assert_eq!(made(&golden), first);
    assert_eq!(kept(&scene).len(), 2, "{:?}", kept(&scene));
}

#[test]
fn what_was_saved_is_known_again_or_made_anew() {
    let scene = Scene::of("obeys");
    let (plan, golden) = scene.golden("obeys");
    drop(copy(&plan, &golden).unwrap());
    let [state, memory] = SAVED.map(|name| golden.folder.join(name));
    // Put back from somewhere else, it is what it was.
    let content = fs::read(&memory).unwrap();
    fs::remove_file(&memory).unwrap();
    fs::write(&memory, &content).unwrap();
    assert!(is_whole(&golden.folder));
    let number = |path: &Path| fs::metadata(path).unwrap().ino();
    let saved = number(&state);
    // Open, or another file could have its number when it is gone.
    let _held = File::open(&state).unwrap();
    let is_same = || {
        drop(copy(&plan, &golden).unwrap());
        number(&state) == saved
    };
    assert!(is_same());
    // The real one takes such a memory, and its machine dies of it.
    let file = OpenOptions::new().write(true).open(&memory).unwrap();
    file.write_all_at(b"another", 4096).unwrap();
    assert!(!is_whole(&golden.folder));
    assert!(!is_same());
    for spoil in [
        |[_, memory]: [&Path; 2]| fs::write(memory, "").unwrap(),
        |[state, _]: [&Path; 2]| fs::remove_file(state).unwrap(),
        |[_, memory]: [&Path; 2]| {
            // The same is there, by a link.
            fs::rename(memory, memory.with_file_name("moved")).unwrap();
            std::os::unix::fs::symlink("moved", memory).unwrap();
        },
        |[state, _]: [&Path; 2]| fs::write(state.with_file_name(ABOUT), "{").unwrap(),
    ] {
        spoil([&state, &memory]);
        assert!(!is_whole(&golden.folder));
        assert!(answers(&copy(&plan, &golden).unwrap()));
        assert!(is_whole(&golden.folder));
    }
}

#[test]
fn what_firecracker_refuses_to_restore_is_made_anew() {
    let scene = Scene::of("obeys");
    let (plan, golden) = scene.golden("obeys");
    drop(copy(&plan, &golden).unwrap());
    let state = golden.folder.join(SAVED[0]);
    let other = fs::read_to_string(&state).unwrap().replace("fake 1", "9.0.0");
    fs::write(&state, other).unwrap();
    let [state, memory] = SAVED.map(|name| File::open(golden.folder.join(name)).unwrap());
    let files = [Known::of(&state).unwrap(), Known::of(&memory).unwrap()];
    write_about(&golden.folder, &About { plan: plan.clone(), files }).unwrap();
    let told = Machine::restore(&plan, &golden.folder).err().unwrap().to_string();
    assert!(told.contains("restore the machine: ") && told.contains("9.0.0"), "{told}");
    assert!(answers(&copy(&plan, &golden).unwrap()));
}

#[test]
fn one_that_can_not_be_made_leaves_nothing() {
    for (kind, why) in [
        ("rootless", "the test wants it"),
        ("panics", "Kernel panic"),
        ("full", "No space left on device"),
    ] {
        let scene = Scene::of(kind);
        let (plan, golden) = scene.golden(kind);
        let told = copy(&plan, &golden).err().unwrap().to_string();
        assert!(told.contains(why), "{told}");
        assert_eq!(kept(&scene).len(), 1, "only the turn: {:?}", kept(&scene));
        assert_eq!(swept(&scene), golden.folder);
        assert!(kept(&scene).is_empty());
    }
}

#[test]
fn a_draft_that_a_killed_maker_has_left_is_replaced() {
    let scene = Scene::of("obeys");
    let (plan, golden) = scene.golden("obeys");
    fs::create_dir_all(golden.folder.with_extension("part").join("memory")).unwrap();
    assert!(answers(&copy(&plan, &golden).unwrap()));
    assert!(!golden.folder.with_extension("part").exists());
}

#[test]
fn machines_that_differ_are_no_copies_of_each_other() {
    let scene = Scene::of("obeys");
    let (plan, golden) = scene.golden("obeys");
    let made = |plan: &Plan, making: Making, setting: Setting| {
        Golden::of(plan, making, setting, &scene.0).unwrap().folder
    };
    let of = |plan: &Plan, making: Making| made(plan, making, Setting::default());
    assert_eq!(of(&plan, Making::default()), golden.folder);
    assert_ne!(of(&plan, Making { read_only: true, ..Making::default() }), golden.folder);
    assert_ne!(of(&Plan { memory: 256, ..plan.clone() }, Making::default()), golden.folder);
    let other = Setting { closed: vec!["/closed".into()], ..Setting::default() };
    assert_ne!(made(&plan, Making::default(), other), golden.folder);
    // A file of the same name that was written since.
    fs::write(scene.0.join("initrd"), "another").unwrap();
    assert_ne!(of(&plan, Making::default()), golden.folder);
    fs::remove_file(scene.0.join("image")).unwrap();
    assert!(Golden::of(&plan, Making::default(), Setting::default(), &scene.0).is_err());
}

#[test]
fn one_that_is_not_of_a_pool_is_a_copy_only_if_there_is_something_to_copy() {
    let scene = Scene::of("obeys");
    let (plan, golden) = scene.golden("obeys");
    let from = |origin| {
        let golden =
            Golden::from(origin, &plan, (&Making::default(), &Setting::default()), &scene.0);
        let golden = golden.unwrap();
        golden.map(|golden| golden.folder)
    };
    assert_eq!((from(Origin::Boot), from(Origin::Saved)), (None, None));
    assert_eq!(from(Origin::Shared), Some(golden.folder.clone()));
    drop(copy(&plan, &golden).unwrap());
    assert_eq!((from(Origin::Boot), from(Origin::Saved)), (None, Some(golden.folder.clone())));
    // Nobody boots one for it whose files are not what they were.
    fs::write(golden.folder.join("memory"), "others").unwrap();
    assert_eq!(from(Origin::Saved), None);
}

#[test]
fn what_is_of_no_use_any_more_is_swept() {
    let scene = Scene::of("obeys");
    let (plan, golden) = scene.golden("obeys");
    let machine = copy(&plan, &golden).unwrap();
    assert!(sweep(&scene.0).is_empty());
    let turn = File::options().write(true).open(Turn::path(&golden.folder)).unwrap();
    turn.set_modified(SystemTime::now() - UNUSED - Duration::from_secs(1)).unwrap();
    // Not while somebody has it.
    flock(&turn, FlockOperation::LockShared).unwrap();
    assert!(sweep(&scene.0).is_empty());
    flock(&turn, FlockOperation::Unlock).unwrap();
    assert_eq!(swept(&scene), golden.folder);
    assert!(answers(&machine), "what is gone is still mapped");
    drop(copy(&plan, &golden).unwrap());
    fs::write(scene.0.join("image"), "another").unwrap();
    assert_eq!(swept(&scene), golden.folder);
    assert!(kept(&scene).is_empty());
}
