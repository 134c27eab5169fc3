//! A daemon of a test's own, in a folder of its own.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Where a daemon and its clients have all that is theirs; goes with this.
pub struct Home {
    folder: PathBuf,
}

impl Home {
    pub fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("agentkerneld-{name}-{}", std::process::id()));
        for sub in ["state", "runtime", "work"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
            fs::set_permissions(folder.join(sub), fs::Permissions::from_mode(0o700)).unwrap();
        }
        Self { folder }
    }

    pub fn path(&self, sub: &str) -> PathBuf {
        self.folder.join(sub)
    }

    /// The small program, if it was built beside the daemon's.
    pub fn client(&self) -> Option<Command> {
        let program = Path::new(env!("CARGO_BIN_EXE_agentkerneld")).with_file_name("agentkernel");
        program.is_file().then(|| self.at_home(&program))
    }

    fn at_home(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.folder)
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        command
    }

    /// What `agentkernel` with these words says and returns.
    pub fn run(&self, words: &[&str]) -> Output {
        self.client().expect("looked at before").args(words).output().unwrap()
    }

    /// The same, which must succeed.
    pub fn must(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The daemon's program.
    pub fn daemon_program(&self) -> Command {
        self.at_home(Path::new(env!("CARGO_BIN_EXE_agentkerneld")))
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("runtime/agentkernel/daemon.sock")
    }

    /// The pool of this name, as the daemon tells of it.
    pub fn pool(&self, name: &str) -> Value {
        let told: Value = serde_json::from_str(&self.must(&["pool", "ls", "--json"])).unwrap();
        let pools = told["pools"].as_array().unwrap();
        pools.iter().find(|pool| pool["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until the pool of this name is as it should be, and returns how it is then.
    pub fn until_pool(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut pool = Value::Null;
        until(&format!("the pool {name} to be as it should"), || {
            pool = self.pool(name);
            is_so(&pool)
        });
        pool
    }

    /// Waits until a pool is full.
    pub fn until_full(&self, name: &str) -> Value {
        self.until_pool(name, |pool| pool["ready"] == pool["size"] && pool["ready"].is_u64())
    }

    /// Ends a daemon, of whom nothing may be left then.
    pub fn end(&self, mut daemon: Child) {
        let all = family(daemon.id());
        self.must(&["daemon", "stop"]);
        assert!(daemon.wait().unwrap().success());
        assert_eq!(family(daemon.id()), [0; 0]);
        assert_eq!(groups(&all), [""; 0].map(PathBuf::from));
        assert!(!self.socket().exists());
    }

    /// Starts a daemon and waits until it is ready.
    pub fn daemon(&self) -> Child {
        let mut daemon = self
            .daemon_program()
            .stdout(Stdio::piped())
            .stderr(fs::File::options().append(true).create(true).open(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{}", fs::read_to_string(self.path("log")).unwrap());
        daemon
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What a test that failed has left must not live on.
        if self.client().is_some() {
            self.run(&["daemon", "stop"]);
            let names = self.run(&["ps", "-a", "-q"]).stdout;
            for name in String::from_utf8_lossy(&names).lines() {
                self.run(&["rm", "-f", name]);
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits for something, half a minute at most.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < patience, "waited in vain for {what}");
        pause();
    }
}

/// Skips a test where there is no client to test with.
macro_rules! need_client {
    ($home:expr) => {
        if $home.client().is_none() {
            println!("skipped: agentkernel was not built beside agentkerneld");
            return;
        }
    };
}
pub(crate) use need_client;

/// A moment, where nothing tells of what is waited for.
pub fn pause() {
    let moment = rustix::time::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    let _ = rustix::event::poll(&mut [], Some(&moment));
}

/// The processes of the nurseries of the daemon `pid`, their places included.
pub fn family(pid: u32) -> Vec<u32> {
    let mark = format!("nursery\0{pid}\0");
    let entries = fs::read_dir("/proc").unwrap().filter_map(io::Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number: &u32| {
            let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&mark) && !is_dead(*number)
        })
        .collect()
}

/// Whether a process has ended, even if somebody still has to wait for it.
pub fn is_dead(pid: u32) -> bool {
    matches!(state(pid), 'Z' | 'X')
}

/// A process's state, as ps(1) has it; X if there is none.
pub fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('X')
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The nurseries of a daemon, and the first processes of their places.
pub fn nurseries_and_inits(daemon: &Child) -> (Vec<u32>, Vec<u32>) {
    let all = family(daemon.id());
    let (nurseries, rest): (Vec<u32>, Vec<u32>) =
        all.into_iter().partition(|pid| parent(*pid) == Some(daemon.id()));
    let is_init = |pid: &u32| parent(*pid).is_some_and(|parent| nurseries.contains(&parent));
    // A keeper is a nursery's child, too, but shares its memory and so its name.
    let inits = rest.into_iter().filter(is_init).filter(|pid| is_init_of_namespace(*pid));
    let inits = inits.collect();
    (nurseries, inits)
}

fn is_init_of_namespace(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("NSpid:")).unwrap_or_default();
    line.split_whitespace().count() == 3 && line.ends_with("\t1")
}

/// The control groups that the processes `makers` have made.
pub fn groups(makers: &[u32]) -> Vec<PathBuf> {
    let tops = ["memory", "pids", "cpu", "unified", ""];
    let tops = tops.iter().map(|top| Path::new("/sys/fs/cgroup").join(top));
    let entries =
        tops.filter_map(|top| fs::read_dir(top).ok()).flatten().filter_map(io::Result::ok);
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        makers.iter().any(|maker| name.starts_with(&format!("agentkernel-{maker}-")))
    };
    entries.map(|entry| entry.path()).filter(ours).collect()
}
