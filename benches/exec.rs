//! What a command in a living sandbox costs through the library, next to a bare process.
//!
//! `cargo bench --bench exec -- [ROUNDS]` makes a sandbox in a temporary folder, and measures in
//! turn: fork, exec and wait of `/bin/true` by the standard library, and the same command by
//! `Sandboxes::exec`, audit log included. It prints one JSON object with every sample in
//! nanoseconds.

use std::process::{Command as Bare, Stdio};
use std::time::Instant;
use std::{env, fs, process};

use agentkernel_core::Command;
use agentkernel_engine::{Engine, Exec, NewSandbox, Sandboxes, Terminal};
use agentkernel_store::Dirs;
use agentkernel_wire::{Caller, Machine, SpecRequest};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let rounds = env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(500);
    let folder = env::temp_dir().join(format!("agentkernel-bench-{}", process::id()));
    fs::create_dir(&folder)?;
    let done = measure(&folder, rounds);
    fs::remove_dir_all(&folder)?;
    done
}

fn measure(folder: &std::path::Path, rounds: usize) -> Result<(), Failure> {
    static ENGINE: Engine = Engine::new(agentkernel::BACKENDS);
    let variable = |name: &str| {
        let of = |sub: &str| Some(folder.join(sub).into_os_string());
        match name {
            "XDG_STATE_HOME" => of("state"),
            "XDG_RUNTIME_DIR" => of("runtime"),
            _ => None,
        }
    };
    for sub in ["state", "runtime"] {
        fs::DirBuilder::new().create(folder.join(sub))?;
        fs::set_permissions(folder.join(sub), std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    }
    let (uid, _) = agentkernel_sys::identity::effective();
    let sandboxes = Sandboxes::open(&ENGINE, Dirs::find(variable, uid)?, "bench")?;
    let capabilities = agentkernel::BACKENDS[0].capabilities();
    let machine = Machine::default();
    let caller = Caller { variables: &[], machine, capabilities, program: None };
    let spec = SpecRequest::default().resolve(&caller)?.spec;
    let record = sandboxes.create(NewSandbox {
        name: None,
        backend: None,
        spec,
        labels: Default::default(),
        ttl: None,
        idle: None,
        origin: None,
    })?;
    let name = record.name.to_string();
    sandboxes.start(&name)?;
    let samples = take(&sandboxes, &name, rounds);
    sandboxes.remove(&name, true)?;
    let (bare, live) = samples?;
    println!(
        "{}",
        serde_json::json!({
            "what": "/bin/true, in nanoseconds", "bare_fork_exec_wait": bare, "live_exec": live
        })
    );
    eprintln!("bare {:?} us, live {:?} us (p10, p50, p99)", spread(&bare), spread(&live));
    eprintln!("ratio of medians {:.2}", spread(&live)[1] / spread(&bare)[1]);
    Ok(())
}

type Samples = (Vec<u64>, Vec<u64>);

fn take(sandboxes: &Sandboxes<'_>, name: &str, rounds: usize) -> Result<Samples, Failure> {
    let (mut bare, mut live) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let status = Bare::new("/bin/true").stdin(Stdio::null()).status()?;
        bare.push(start.elapsed().as_nanos() as u64);
        assert!(status.success());
        let start = Instant::now();
        let command = Command { argv: vec!["/bin/true".into()], ..Command::default() };
        let exec = Exec { command, terminal: Terminal::Never, stdin: false };
        let outcome = sandboxes.exec(name, exec)?;
        live.push(start.elapsed().as_nanos() as u64);
        assert_eq!(outcome.ended.exit_code(), 0);
    }
    Ok((bare, live))
}

/// The 10th, 50th and 99th of a hundred, in microseconds.
fn spread(samples: &[u64]) -> [f64; 3] {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    [10, 50, 99].map(|percent| sorted[(sorted.len() - 1) * percent / 100] as f64 / 1000.0)
}
