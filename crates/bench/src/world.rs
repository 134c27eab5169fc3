//! Where everything that is measured happens: folders of nobody else's.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::Surroundings;
use crate::surroundings::IMAGE;

/// Prints what the measured command prints.
const HELLO: &str = include_str!("../../../examples/wasm/hello.wat");

/// The programs that are measured.
#[derive(Debug, Clone)]
pub struct Programs {
    pub agentkernel: PathBuf,
    pub agentkerneld: PathBuf,
}

impl Programs {
    /// Those in a directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            agentkernel: directory.join("agentkernel"),
            agentkerneld: directory.join("agentkerneld"),
        }
    }
}

/// A home with the programs in it, as an installation has them. Dropping it ends its daemon,
/// removes its sandboxes, and then itself.
#[derive(Debug)]
pub struct World {
    home: TempDir,
    /// What is the command where commands are modules, whatever its words are.
    module: Option<PathBuf>,
    surroundings: Surroundings,
}

impl World {
    /// One for backends that need nothing of the caller's.
    pub fn new(programs: &Programs) -> io::Result<Self> {
        Self::within(programs, Surroundings::default())
    }

    /// Copies the programs: the kernel starts one faster from a file that was written in order, as
    /// an installation does it, than from one that the linker has written here and there.
    pub fn within(programs: &Programs, surroundings: Surroundings) -> io::Result<Self> {
        let home = tempfile::Builder::new().prefix("ak-bench-").tempdir()?;
        for folder in ["bin", "config", "run", "state", "work"] {
            DirBuilder::new().mode(0o700).create(home.path().join(folder))?;
        }
        fs::copy(&programs.agentkernel, home.path().join("bin/agentkernel"))?;
        fs::copy(&programs.agentkerneld, home.path().join("bin/agentkerneld"))?;
        surroundings.show_sockets(&home.path().join("run"))?;
        let module = surroundings.is_for_modules().then(|| home.path().join("hello.wat"));
        module.iter().try_for_each(|path| fs::write(path, HELLO))?;
        Ok(Self { home, module, surroundings })
    }

    /// The image of its sandboxes, if they have one.
    pub fn image(&self) -> Option<&str> {
        self.surroundings.image()
    }

    /// A name that no sandbox of another world has: an engine may be everybody's.
    pub fn name(&self, own: &str) -> String {
        let home = self.home.path().file_name().unwrap_or_default().to_string_lossy();
        format!("{}-{own}", home.to_lowercase())
    }

    /// An empty directory that goes with the world.
    pub fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.home.path().join("work").join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// agentkernel, with no settings but those of the world's.
    pub fn agentkernel(&self, words: &[&str]) -> Command {
        let mut command = self.command(&self.home.path().join("bin/agentkernel"));
        self.surroundings.surround(&mut command);
        command.envs(self.module.iter().map(|module| (IMAGE, module)));
        command.args(words);
        command
    }

    /// Another program, in the same surroundings; an engine's own has the caller's folders.
    pub fn tool(&self, program: &Path) -> Command {
        let mut command = self.command(program);
        self.surroundings.surround_tool(&mut command);
        command
    }

    fn command(&self, program: &Path) -> Command {
        let home = self.home.path();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", home)
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("XDG_STATE_HOME", home.join("state"))
            // A Ctrl-C that ends the benchmark early must not spoil what is being measured.
            .process_group(0)
            .current_dir(home.join("work"));
        command
    }

    /// Has agentkernel do something that is not measured, and returns what it printed.
    pub fn must(&self, words: &[&str]) -> io::Result<String> {
        let output = self.agentkernel(words).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("agentkernel {}: {}", words.join(" "), said.trim())))
    }

    /// The same for what prints JSON.
    pub fn ask(&self, words: &[&str]) -> io::Result<Value> {
        Ok(serde_json::from_str(&self.must(words)?)?)
    }

    /// Removes all sandboxes that are left. One that can't be is no reason to leave the others.
    pub fn remove_sandboxes(&self) -> io::Result<()> {
        let all = self.ask(&["ps", "-a", "--json"])?;
        let names = all["sandboxes"].as_array().into_iter().flatten();
        let names = names.filter_map(|sandbox| sandbox["name"].as_str());
        let removed = names.map(|name| self.must(&["rm", "-f", name]).map(drop));
        removed.fold(Ok(()), io::Result::and)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // There may be none of either; what can't be removed is told by the folder that stays.
        let _ = self.must(&["daemon", "stop"]);
        let _ = self.remove_sandboxes();
    }
}
