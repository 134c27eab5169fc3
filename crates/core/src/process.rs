//! From a command to what an agent starts.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::in_image::words;
use crate::{Access, BootError, Command, Identity, ImageFacts, Process, Spec};

/// Where programs are looked for unless the spec or the image says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Process {
    /// What has to be started for `command` by `identity` in a place made from `spec`, in whose
    /// image these variables are set, and where it starts unless it says otherwise.
    pub fn new(
        spec: &Spec,
        command: &Command,
        identity: &Identity,
        image: &[(&str, &str)],
        start: &str,
    ) -> Result<Self, BootError> {
        let environment = environment(spec, command, identity, image);
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
        let programs = programs(command, path.map_or(OsStr::new(""), |path| path))?;
        let argv = command.argv.iter().map(|arg| c_string(arg.as_bytes()));
        let directory = command.directory.as_ref().or(spec.directory.as_ref());
        let directory = directory.map_or(start.as_bytes(), |given| given.as_os_str().as_bytes());
        Ok(Self {
            programs,
            is_module: false,
            argv: argv.collect::<Result<_, _>>()?,
            environment: variables(&environment)?,
            directory: c_string(directory)?,
            uid: identity.uid,
            gid: identity.gid,
            writable: Vec::new(),
            no_setuid_files: writes_to_host(spec),
        })
    }
}

impl Process {
    /// The same where the command is the spec's module, of which its image may say more. It gets no
    /// variables but those that the image has and that somebody asked for.
    pub fn of_module(
        spec: &Spec,
        command: &Command,
        identity: &Identity,
        image: &ImageFacts,
        start: &str,
    ) -> Result<Self, BootError> {
        let name = spec.image.module_name().unwrap_or_default().to_owned();
        let argv = [name].into_iter().chain(words(command, image)).collect();
        let command = Command { argv, ..command.clone() };
        let own = image.environment.iter().filter_map(|pair| pair.split_once('='));
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let asked = spec.environment.iter().chain(&command.environment).map(owned);
        let all: BTreeMap<OsString, OsString> = own.chain(asked).collect();
        let asked: Vec<_> = all.into_iter().collect();
        let function = command.function.iter().map(|function| c_string(function.as_bytes()));
        Ok(Self {
            programs: function.collect::<Result<_, _>>()?,
            is_module: true,
            environment: variables(&asked)?,
            ..Self::new(spec, &command, identity, &[], start)?
        })
    }
}

/// Whether files that a sandbox makes stay on the host.
fn writes_to_host(spec: &Spec) -> bool {
    spec.mounts.iter().any(|mount| mount.access == Access::ReadWrite)
}

/// The command's variables: the few that every program expects, the image's, the spec's, the
/// command's own.
fn environment(
    spec: &Spec,
    command: &Command,
    identity: &Identity,
    image: &[(&str, &str)],
) -> Vec<(OsString, OsString)> {
    let basic = [("PATH", PATH), ("HOME", &identity.home), ("USER", &identity.name)];
    let (general, own) = (&spec.environment, &command.environment);
    let in_image = |name: &str| image.iter().any(|(own, _)| *own == name);
    let is_asked =
        |name: &str| general.contains_key(OsStr::new(name)) || own.contains_key(OsStr::new(name));
    basic
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && !in_image(name))
        .chain(image.iter().copied())
        .filter(|(name, _)| !is_asked(name))
        .map(|(name, value)| (name.into(), value.into()))
        .chain(general.iter().filter(|(name, _)| !own.contains_key(*name)).map(owned))
        .chain(own.iter().map(owned))
        .collect()
}

fn owned((name, value): (&OsString, &OsString)) -> (OsString, OsString) {
    (name.clone(), value.clone())
}

fn variables(environment: &[(OsString, OsString)]) -> Result<Vec<CString>, BootError> {
    let variable = |(name, value): &(OsString, OsString)| {
        c_string([name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    environment.iter().map(variable).collect()
}

/// Where the command's program may be: at its path if it has one, else in the directories of
/// `path`, in their order.
fn programs(command: &Command, path: &OsStr) -> Result<Vec<CString>, BootError> {
    let program = command.argv.first().map_or(&b""[..], |program| program.as_bytes());
    if program.contains(&b'/') || program.is_empty() {
        return Ok(vec![c_string(program)?]);
    }
    let directories = path.as_bytes().split(|b| *b == b':');
    directories
        .map(|directory| match directory {
            // An empty one is the current directory, as shells have it.
            b"" => c_string(program),
            directory => c_string([directory, b"/", program].concat()),
        })
        .collect()
}

/// A text for the kernel. It may be an argument or a variable, which may be secret, so the error
/// does not quote it.
pub fn c_string(bytes: impl Into<Vec<u8>>) -> Result<CString, BootError> {
    CString::new(bytes).map_err(|error| BootError::Refused {
        why: format!("there is a NUL byte, after {} others of a text", error.nul_position()),
        fix: "leave it out: no path, argument or variable can hold one".into(),
    })
}
