//! A module made ready to run, and one run of it.

use std::fmt::{self, Debug, Formatter};
use std::sync::OnceLock;

use agentkernel_wasm_calls::{Budget, Entry};
use wasmtime::component;
use wasmtime::{Engine, InstancePre, Linker, Result, Store, Val};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::{self, bindings::CommandPre};
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView};

use crate::end::Exit;
use crate::trusted::Code;

/// What an instance's store holds.
pub(crate) struct State {
    wasi: Option<WasiP1Ctx>,
    settings: Box<dyn FnMut(&mut WasiCtxBuilder) + Send>,
    pub budget: Budget,
}

impl State {
    /// `settings` are only asked for once the module wants something of WASI.
    pub fn new(settings: impl FnMut(&mut WasiCtxBuilder) + Send + 'static, memory: u64) -> Self {
        Self { wasi: None, settings: Box::new(settings), budget: Budget::new(memory) }
    }

    pub fn with(wasi: WasiP1Ctx, memory: u64) -> Self {
        Self { wasi: Some(wasi), ..Self::new(|_| {}, memory) }
    }

    fn wasi(&mut self) -> &mut WasiP1Ctx {
        let Self { wasi, settings, .. } = self;
        wasi.get_or_insert_with(|| {
            let mut builder = WasiCtxBuilder::new();
            settings(&mut builder);
            builder.build_p1()
        })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().ctx()
    }
}

/// All that a module may import.
pub(crate) struct Linkers {
    modules: Linker<State>,
    /// Made when it is first wanted.
    components: OnceLock<component::Linker<State>>,
}

impl Linkers {
    pub fn new(engine: &Engine) -> Result<Self> {
        let mut modules = Linker::new(engine);
        p1::add_to_linker_async(&mut modules, State::wasi)?;
        // wasmtime's own knows exit statuses up to 125 only.
        modules.allow_shadowing(true);
        modules.func_wrap("wasi_snapshot_preview1", "proc_exit", |status: i32| -> Result<()> {
            Err(Exit(status).into())
        })?;
        Ok(Self { modules, components: OnceLock::new() })
    }

    /// What modules may import.
    pub fn modules(&self) -> &Linker<State> {
        &self.modules
    }

    /// What components may import.
    pub fn components(&self) -> Result<&component::Linker<State>> {
        if let Some(linker) = self.components.get() {
            return Ok(linker);
        }
        let mut linker = component::Linker::new(self.modules.engine());
        p2::add_to_linker_async(&mut linker)?;
        Ok(self.components.get_or_init(|| linker))
    }

    pub fn link(&self, code: &Code) -> Result<Program> {
        match code {
            Code::Module(module) => self.modules.instantiate_pre(module).map(Program::Module),
            Code::Component(component) => {
                let linked = self.components()?.instantiate_pre(component)?;
                CommandPre::new(linked).map(Program::Component)
            }
        }
    }
}

impl Debug for Linkers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linkers").finish_non_exhaustive()
    }
}

/// A module with all that it imports.
pub(crate) enum Program {
    Module(InstancePre<State>),
    Component(CommandPre<State>),
}

impl Program {
    /// Finds `function`, or what it does as a command, and reads the `words` of its arguments. The error
    /// is for people.
    pub fn entry<S: AsRef<str>>(
        &self,
        function: Option<&str>,
        words: &[S],
    ) -> Result<Entry, String> {
        match (self, function) {
            (Self::Component(_), None) => Ok(Entry::Start),
            (Self::Component(_), Some(name)) => Err(format!(
                "`{name}` can't be called by name: the functions of a component take more than words \
                 can say"
            )),
            (Self::Module(linked), function) => Entry::of(linked.module(), function, words),
        }
    }

    /// Whether running it never waits for anything, so that it needs no stack of its own.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Module(linked) if linked.module().imports().len() == 0)
    }

    /// Runs it in an instance of its own, and returns a function's results.
    pub async fn run(&self, store: &mut Store<State>, entry: &Entry) -> Result<Vec<Val>> {
        match self {
            Self::Module(linked) => run_module(linked, store, entry).await,
            Self::Component(linked) => {
                let command = linked.instantiate_async(&mut *store).await?;
                match command.wasi_cli_run().call_run(store).await? {
                    Ok(()) => Ok(Vec::new()),
                    Err(()) => Err(Exit(1).into()),
                }
            }
        }
    }

    /// The same for one that is [plain](Self::is_plain).
    pub fn run_plain(&self, store: &mut Store<State>, entry: &Entry) -> Result<Vec<Val>> {
        let Self::Module(linked) = self else { return Ok(Vec::new()) };
        let instance = linked.instantiate(&mut *store)?;
        entry.call(store, instance)
    }
}

async fn run_module(
    linked: &InstancePre<State>,
    store: &mut Store<State>,
    entry: &Entry,
) -> Result<Vec<Val>> {
    let instance = linked.instantiate_async(&mut *store).await?;
    if let Some(first) = entry.first(&mut *store, instance) {
        first.call_async(&mut *store, ()).await?;
    }
    let mut results = entry.results();
    let function = entry.function(&mut *store, instance)?;
    function.call_async(store, entry.arguments(), &mut results).await?;
    Ok(results)
}
