//! What is said of a backend beside its figures, and what these are measured against.

use std::io;
use std::path::Path;

/// What somebody who chooses a backend wants to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    pub class: Class,
    /// What stands between a sandbox and the host, in a few words.
    pub isolation: &'static str,
    /// For whom it is, a whole sentence.
    pub choose: &'static str,
}

/// Backends that may be compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Processes of this kernel, without a container engine.
    Process,
    /// A module in a WebAssembly engine.
    Wasm,
    /// A container engine's.
    Container,
    /// A virtual machine, with a kernel of its own or none.
    Vm,
    /// A cluster that places sandboxes on its machines.
    Orchestrator,
}

impl Class {
    pub const ALL: &[Self] =
        &[Self::Process, Self::Wasm, Self::Container, Self::Vm, Self::Orchestrator];

    /// The class's name in results and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Wasm => "wasm",
            Self::Container => "container",
            Self::Vm => "vm",
            Self::Orchestrator => "orchestrator",
        }
    }
}

/// A tool that does the work of a backend without agentkernel: the engine's own, or a neighbour.
///
/// Its argument lists go without the program itself. In them `{dir}` stands for the directory that
/// was prepared, `{name}` for a name that no other sandbox has at the time, `{image}` for the name of
/// the image that the backend's sandboxes have, and an argument that is `{command}` for the command's
/// arguments.
#[derive(Debug, Clone, Copy)]
pub struct Yardstick {
    /// What it is called in results: a program that can be used in several ways is several tools.
    pub name: &'static str,
    /// The program's name, which is looked for on the PATH.
    pub program: &'static str,
    /// Prints its version.
    pub version: &'static [&'static str],
    /// Puts what the rest needs to run this command into an empty directory.
    pub prepare: fn(&Path, &[&str]) -> io::Result<()>,
    /// If it can be at work elsewhere than the backend: two argument lists, of which the first prints
    /// where the tool is, and the second where the backend is. The tool is no measure of the backend
    /// where both print something and not the same.
    pub place: Option<[&'static [&'static str]; 2]>,
    /// Runs the command in a sandbox of its own, and removes it.
    pub run: &'static [&'static str],
    /// How a sandbox lives, if the tool has any that do.
    pub life: Option<YardstickLife>,
}

/// The steps of a sandbox's life. An empty one is no step of this tool.
#[derive(Debug, Clone, Copy)]
pub struct YardstickLife {
    pub create: &'static [&'static str],
    pub start: &'static [&'static str],
    pub exec: &'static [&'static str],
    pub stop: &'static [&'static str],
    pub remove: &'static [&'static str],
}
