//! From a file's bytes to code, or to why it can't be run.

use std::borrow::Cow;
use std::sync::OnceLock;

use agentkernel_core::BootError;
use wasmtime::component::Component;
use wasmtime::wasmparser::{BinaryReaderError, Encoding, ExternalKind, Parser, Payload};
use wasmtime::{Config, Engine, Module, Store};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::program::{Linkers, State};
use crate::{config, trusted};

/// The longest file that is looked at, in bytes.
const MOST: usize = 256 << 20;
const MAGIC: &[u8] = b"\0asm";

/// Why a file can't be run as a module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("the module is empty")]
    Empty,
    #[error("the module is {} MiB long, more than 256", .0 >> 20)]
    TooLarge(usize),
    #[error("this is no WebAssembly: it begins with neither `\\0asm` nor `(`")]
    NotWasm,
    #[error("the module's text can't be read: {0}")]
    Text(String),
    #[error("the module ends too early, after {0} bytes")]
    Truncated(usize),
    #[error("the module is not valid: {0}")]
    Invalid(String),
    #[error("the module imports `{module}.{name}`, which there is not")]
    UnknownImport { module: String, name: String },
    /// By a name that there is, or by a component.
    #[error("what the module imports can't be given: {0}")]
    Import(String),
    #[error("the module exports no `_start`, and no other function that could be called")]
    NothingToRun,
    #[error("the component exports no `wasi:cli/run`, so it is no command")]
    NoCommand,
    #[error("this is a component, and only modules can be run here")]
    Component,
    #[error("the module can't be compiled here: {0}")]
    Engine(String),
}

impl From<ModuleError> for BootError {
    fn from(error: ModuleError) -> Self {
        Self::Refused { fix: error.hint().into(), why: error.to_string() }
    }
}

impl ModuleError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::Truncated(_) => "build or copy the file again",
            Self::TooLarge(_) => "leave debugging information and data out of it",
            Self::NotWasm => "give a .wasm file, or its text form, .wat",
            Self::Text(_) => "`wasm-tools parse` and other tools tell more",
            Self::Invalid(_) => {
                "build it for the target `wasm32-wasip1` or `wasm32-wasip2`, without features that \
                 are still proposals"
            }
            Self::UnknownImport { .. } | Self::Import(_) => {
                "build it for WASI alone, such as the target `wasm32-wasip1`: there is nothing else to \
                 import"
            }
            Self::NothingToRun | Self::NoCommand => {
                "build it as a command, or export a function and name it with --invoke"
            }
            Self::Component => {
                "build it as a module, for the target `wasm32-wasip1`, or use the wasm backend"
            }
            Self::Engine(_) => "this is not the module's fault; please report it",
        }
    }
}

/// Compiles a module or a component, binary or text, after a look at whether it could be run. The code
/// is for [`RUNNER`](crate::RUNNER) and [`Host`](crate::Host), of this version on this machine.
pub fn compile(bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    static OWN: OnceLock<Compiler> = OnceLock::new();
    Compiler::kept(&OWN, || Compiler::new(&config(), Kinds::All))?.compile(bytes)
}

fn binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ModuleError> {
    match bytes {
        [] => Err(ModuleError::Empty),
        _ if bytes.len() > MOST => Err(ModuleError::TooLarge(bytes.len())),
        _ if bytes.starts_with(MAGIC) => Ok(Cow::Borrowed(bytes)),
        _ if MAGIC.starts_with(bytes) => Err(ModuleError::Truncated(bytes.len())),
        _ => text(bytes).map(Cow::Owned),
    }
}

fn text(bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ModuleError::NotWasm)?;
    // A comment begins with either.
    if !text.trim_start().starts_with(['(', ';']) {
        return Err(ModuleError::NotWasm);
    }
    wat::parse_str(text).map_err(|error| {
        let told = error.to_string();
        // Behind the message is `--> <anon>:LINE:COLUMN`, and the line itself.
        let position =
            told.split_once("<anon>:").map(|(_, rest)| rest.lines().next().unwrap_or(""));
        let position = position.and_then(|position| position.trim().split_once(':'));
        let message = told.lines().next().unwrap_or("").trim();
        ModuleError::Text(match position {
            Some((line, column)) => format!("{message}, at line {line}, column {column}"),
            None => message.to_owned(),
        })
    })
}

/// What can be seen of a file without compiling it.
struct Look {
    encoding: Encoding,
    /// Of a module, by what it imports from.
    imports: Vec<(String, String)>,
    has_functions: bool,
}

impl Look {
    fn at(binary: &[u8]) -> Result<Self, ModuleError> {
        let mut look = None;
        for payload in Parser::new(0).parse_all(binary) {
            let seen = payload.and_then(|payload| {
                let Payload::Version { encoding, .. } = payload else {
                    return look.as_mut().map_or(Ok(()), |look: &mut Self| look.add(payload));
                };
                // Those of the modules in a component come later.
                look.get_or_insert(Self { encoding, imports: Vec::new(), has_functions: false });
                Ok(())
            });
            seen.map_err(|error| match error.message() {
                message if message.starts_with("unexpected end") => {
                    ModuleError::Truncated(binary.len())
                }
                _ => ModuleError::Invalid(error.to_string()),
            })?;
        }
        look.ok_or(ModuleError::Truncated(binary.len()))
    }

    fn add(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    self.imports.push((import.module.to_owned(), import.name.to_owned()));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    self.has_functions |= export?.kind == ExternalKind::Func;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What can be run where code goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    Modules,
    /// Modules and components.
    All,
}

/// Makes code for an engine.
#[derive(Debug)]
pub struct Compiler {
    engine: Engine,
    linkers: Linkers,
    kinds: Kinds,
}

impl Compiler {
    /// One for engines that are configured so. They are to offer all of WASI's preview 1.
    pub fn new(config: &Config, kinds: Kinds) -> Result<Self, ModuleError> {
        let engine = Engine::new(config).map_err(unable)?;
        let linkers = Linkers::new(&engine).map_err(unable)?;
        Ok(Self { engine, linkers, kinds })
    }

    /// The one that is kept there, which is made first if it is not.
    pub fn kept(
        place: &'static OnceLock<Self>,
        make: impl FnOnce() -> Result<Self, ModuleError>,
    ) -> Result<&'static Self, ModuleError> {
        if let Some(compiler) = place.get() {
            return Ok(compiler);
        }
        let made = make()?;
        Ok(place.get_or_init(|| made))
    }

    /// Whether this is code that it could have made.
    pub fn accepts(&self, code: &[u8]) -> bool {
        trusted::load(&self.engine, code).is_ok()
    }

    /// Compiles a module, binary or text, after a look at whether it could be run.
    pub fn compile(&self, bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let binary = binary(bytes)?;
        let look = Look::at(&binary)?;
        match look.encoding {
            Encoding::Module => self.module(&binary, &look),
            Encoding::Component if self.kinds == Kinds::Modules => Err(ModuleError::Component),
            Encoding::Component => self.component(&binary),
        }
    }

    fn module(&self, binary: &[u8], look: &Look) -> Result<Vec<u8>, ModuleError> {
        self.check_imports(&look.imports)?;
        if !look.has_functions {
            return Err(ModuleError::NothingToRun);
        }
        let module = Module::new(&self.engine, binary).map_err(invalid)?;
        self.linkers.modules().instantiate_pre(&module).map_err(import)?;
        module.serialize().map_err(unable)
    }

    fn check_imports(&self, imports: &[(String, String)]) -> Result<(), ModuleError> {
        let mut store = Store::new(&self.engine, State::new(|_| {}, 0));
        let linker = self.linkers.modules();
        let is_unknown =
            |(module, name): &&(String, String)| linker.get(&mut store, module, name).is_err();
        imports.iter().find(is_unknown).map_or(Ok(()), |(module, name)| {
            Err(ModuleError::UnknownImport { module: module.clone(), name: name.clone() })
        })
    }

    fn component(&self, binary: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let component = Component::new(&self.engine, binary).map_err(invalid)?;
        let linker = self.linkers.components().map_err(unable)?;
        let linked = linker.instantiate_pre(&component).map_err(import)?;
        CommandPre::new(linked).map_err(|_| ModuleError::NoCommand)?;
        component.serialize().map_err(unable)
    }
}

fn invalid(error: wasmtime::Error) -> ModuleError {
    ModuleError::Invalid(error.root_cause().to_string())
}

fn import(error: wasmtime::Error) -> ModuleError {
    ModuleError::Import(error.to_string())
}

fn unable(error: wasmtime::Error) -> ModuleError {
    ModuleError::Engine(format!("{error:#}"))
}
