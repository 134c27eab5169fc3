//! Where a spec comes from besides the flags: variables, the project's file and the user's.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentkernel_wire::{
    Environment, OwnedError, ProjectRequest, SpecRequest, VariableError, read_env_file, read_file,
    read_owned, read_variables, user_file,
};

use crate::error::CommandError;

/// The settings file of a project.
const PROJECT_FILE: &str = "agentkernel.toml";

/// The caller's environment.
pub(crate) type Variables = [(OsString, OsString)];

/// Which settings files are read, and how far a project's is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFiles {
    None,
    /// A project's file may ask for less than there would be, but for no more than its project.
    All,
    /// A project's file may ask for anything.
    Trusted,
}

/// A request with everything laid under its flags, and the files that were read for it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub request: SpecRequest,
    /// The project's before the user's.
    pub files: Vec<PathBuf>,
}

/// Lays the flags over the variables, over the project's file, over the user's.
pub(crate) fn gather(
    mut flags: SpecRequest,
    env_files: &[PathBuf],
    read: ReadFiles,
    variables: &Variables,
) -> Result<Settings, CommandError> {
    // A folder that was deleted is no obstacle to a run that doesn't depend on it.
    let here = env::current_dir().ok();
    lay_over_env_files(&mut flags, env_files)?;
    let mut request = flags.over(read_variables(variables).map_err(variable_error)?);
    if let Some(here) = &here {
        request.anchor(here, here);
    }
    let mut files = Vec::new();
    if read != ReadFiles::None {
        let home = path_variable(variables, "HOME");
        let project = find_project_file(here.as_deref(), &request, home).map(|path| (path, None));
        // The user's own folder of settings is nobody's project.
        let user = user_file(|name| variable(variables, name).cloned())
            .map(|path| (path, here.as_deref()));
        for (path, above) in project.into_iter().chain(user) {
            let Some(lower) = load(&path, above)? else {
                continue;
            };
            let is_projects = above.is_none();
            if is_projects && (lower.kubernetes.is_there() || lower.nomad.is_there()) {
                return Err(CommandError::new(
                    format!("{} says where a cluster is, which is not a project's", path.display()),
                    "have it in your own file, ~/.config/agentkernel/config.toml",
                ));
            }
            if is_projects && read != ReadFiles::Trusted {
                refuse_widening(&path, &lower)?;
            }
            request = request.over(lower);
            files.push(path);
        }
    }
    // Only now it is known whether there is a project, which may be a file's.
    if let Some(here) = &here {
        request.anchor_build(here);
    }
    Ok(Settings { request, files })
}

/// A command in a sandbox may have written the project's file, to get more the next time.
fn refuse_widening(path: &Path, request: &SpecRequest) -> Result<(), CommandError> {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok()).unwrap_or_default();
    match request.widens_beyond(&folder) {
        None => Ok(()),
        Some(key) => Err(CommandError::new(
            format!("{} asks by `{key}` for more than its project", path.display()),
            "look at it; then give that by a flag or in your own file, or pass --trust",
        )),
    }
}

fn variable_error(err: VariableError) -> CommandError {
    let message = err.to_string();
    match err {
        VariableError::Unknown { hint, .. } => CommandError::new(message, hint),
        VariableError::Value { name, .. } => {
            CommandError::new(message, format!("correct AGENTKERNEL_{name}, or unset it"))
        }
    }
}

/// A later env file goes over an earlier one, and `-e` over all of them.
pub(crate) fn lay_over_env_files(
    flags: &mut SpecRequest,
    paths: &[PathBuf],
) -> Result<(), CommandError> {
    let mut all = Environment::new();
    for path in paths {
        let text = fs::read(path).map_err(|err| {
            let message = format!("{} can't be read: {err}", path.display());
            CommandError::new(message, "name a file that you may read")
        })?;
        let wrong = |err| {
            let message = format!("{}:{err}", path.display());
            CommandError::new(message, "each line is NAME=VALUE, NAME alone, or a # comment")
        };
        all.extend(read_env_file(&text).map_err(wrong)?);
    }
    all.append(&mut flags.env);
    flags.env = all;
    Ok(())
}

/// A variable that holds an absolute path; others don't count, as the XDG specification has it.
fn path_variable<'a>(variables: &'a Variables, name: &str) -> Option<&'a Path> {
    variable(variables, name).map(Path::new).filter(|path| path.is_absolute())
}

fn variable<'a>(variables: &'a Variables, name: &str) -> Option<&'a OsString> {
    variables.iter().find(|(n, _)| n == OsStr::new(name)).map(|(_, value)| value)
}

/// The nearest settings file from the project (or else from here) up to the root of its git
/// repository or the home, whichever comes first. Where there is neither, only the folder itself
/// counts: what lies above is nobody's project.
fn find_project_file(
    here: Option<&Path>,
    request: &SpecRequest,
    home: Option<&Path>,
) -> Option<PathBuf> {
    let start = match &request.project {
        Some(ProjectRequest::On { directory: Some(project), .. }) => project.canonicalize().ok()?,
        _ => here?.to_owned(),
    };
    let mut nearest = None;
    for folder in start.ancestors() {
        if nearest.is_none() {
            nearest = Some(folder.join(PROJECT_FILE)).filter(|path| path.exists());
        }
        let is_start = folder == start;
        let is_top = || home == Some(folder) || folder.join(".git").exists();
        if nearest.is_some() && is_start || is_top() {
            return nearest;
        }
    }
    // The home may be known by another name than the one that leads here.
    let home = nearest.as_ref().and_then(|_| home?.canonicalize().ok());
    nearest.filter(|path| home.is_some_and(|home| path.starts_with(home)))
}

/// Reads a settings file, if there is one. What it says is relative to its own folder, which is
/// the project too unless there is another.
fn load(path: &Path, project: Option<&Path>) -> Result<Option<SpecRequest>, CommandError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let mut request = read_file(&text).map_err(|err| {
        let hint = err.hint.clone().unwrap_or_else(|| "correct it, or pass --no-config".into());
        CommandError::new(format!("{}:{err}", path.display()), hint)
    })?;
    if let Some(folder) = path.parent() {
        request.anchor(folder, project.unwrap_or(folder));
        if project.is_none() {
            request.anchor_build(folder);
        }
    }
    Ok(Some(request))
}

/// The bytes of a settings file that may be believed, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CommandError> {
    read_owned(path, caller).map_err(|error| {
        let fix = match &error {
            OwnedError::NoFile => "a file must be there, or nothing",
            OwnedError::Unreadable(_) => "name a file that you may read",
            OwnedError::Others(_) => "read it, then make it yours with chown, or pass --no-config",
            OwnedError::Long => "shorten it, or pass --no-config",
        };
        CommandError::new(format!("{} {error}", path.display()), fix)
    })
}

/// The caller's user number. A new pipe belongs to whoever makes it, on every Unix, so no system
/// call is needed that the standard library doesn't have.
fn caller() -> io::Result<u32> {
    let (reader, _writer) = io::pipe()?;
    Ok(File::from(OwnedFd::from(reader)).metadata()?.uid())
}

#[cfg(test)]
mod tests;
