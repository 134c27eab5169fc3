//! The agent's program: the small one, built for Linux, whatever this machine is.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentkernel_core::BootError;

/// What it is called where it lies beside agentkerneld, for a processor such as `aarch64`.
fn name() -> String {
    format!("agentkernel-linux-{}", std::env::consts::ARCH)
}

/// Where it is.
pub fn find() -> Result<PathBuf, BootError> {
    let own = std::env::current_exe().map_err(|source| BootError::Failed {
        what: "can't tell where this program is".into(),
        source,
    })?;
    let built = own.with_file_name(name());
    // On Linux the program itself is one.
    let same = cfg!(target_os = "linux").then(|| own.with_file_name("agentkernel"));
    let found = [Some(built.clone()), same].into_iter().flatten().find(|path| path.is_file());
    found.ok_or_else(|| BootError::Unavailable {
        why: format!(
            "the agent's program for Linux, which runs inside, is missing: there is no {}",
            built.display()
        ),
        fix: format!(
            "put the agentkernel of this version that is built for {}-unknown-linux there, under \
             that name",
            std::env::consts::ARCH
        ),
    })
}

/// A folder with nothing but the program in it, to be shown in a container.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Whether it goes with this.
    fleeting: bool,
}

impl Folder {
    /// Makes one at `path`: one that is there already is made anew, so that it is of this version.
    pub fn make(path: PathBuf, fleeting: bool) -> Result<Self, BootError> {
        let program = find()?;
        let folder = Self { path, fleeting };
        folder.fill(&program).map_err(|source| BootError::Failed {
            what: "can't make room for the agent's program".into(),
            source,
        })?;
        Ok(folder)
    }

    fn fill(&self, program: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o755).create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !self.fleeting => {}
            made => made?,
        }
        let (to, fresh) = (self.path.join("agent"), self.path.join("agent.new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let copy = File::create_new(&fresh)?;
        io::copy(&mut File::open(program)?, &mut &copy)?;
        copy.set_permissions(Permissions::from_mode(0o755))?;
        // A machine that still ends may have the one before.
        fs::rename(&fresh, &to)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.fleeting {
            // What could not be removed is swept later.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
