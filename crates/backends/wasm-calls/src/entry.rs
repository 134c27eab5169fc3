//! What of a module is to be called.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use wasmtime::{AsContextMut, ExternType, Func, Instance, Module, Result, TypedFunc, Val};

use crate::values;

/// What a module that is a command exports.
const START: &str = "_start";
/// What is called first in a module that is a library.
const INITIALIZE: &str = "_initialize";

/// What of a module is to be called.
#[derive(Debug)]
pub enum Entry {
    /// What it does as a command.
    Start,
    Function {
        name: String,
        arguments: Vec<Val>,
        results: usize,
    },
}

impl Entry {
    /// Finds `function`, or what the module does as a command, and reads the `words` of its arguments. The
    /// error is for people.
    pub fn of<S: AsRef<str>>(
        module: &Module,
        function: Option<&str>,
        words: &[S],
    ) -> core::result::Result<Self, String> {
        match function {
            None => start(module),
            Some(name) => call(module, name, words),
        }
    }

    /// What is called before it, if anything.
    pub fn first(
        &self,
        mut store: impl AsContextMut,
        instance: Instance,
    ) -> Option<TypedFunc<(), ()>> {
        match self {
            Self::Start => None,
            Self::Function { .. } => instance.get_typed_func(&mut store, INITIALIZE).ok(),
        }
    }

    pub fn function(&self, mut store: impl AsContextMut, instance: Instance) -> Result<Func> {
        let name = match self {
            Self::Start => START,
            Self::Function { name, .. } => name,
        };
        let gone = || wasmtime::format_err!("the function is gone");
        instance.get_func(&mut store, name).ok_or_else(gone)
    }

    pub fn arguments(&self) -> &[Val] {
        match self {
            Self::Start => &[],
            Self::Function { arguments, .. } => arguments,
        }
    }

    /// Room for its results.
    pub fn results(&self) -> Vec<Val> {
        match self {
            Self::Start => Vec::new(),
            Self::Function { results, .. } => vec![Val::I32(0); *results],
        }
    }

    /// Calls it, and returns a function's results.
    pub fn call(&self, mut store: impl AsContextMut, instance: Instance) -> Result<Vec<Val>> {
        if let Some(first) = self.first(&mut store, instance) {
            first.call(&mut store, ())?;
        }
        let mut results = self.results();
        self.function(&mut store, instance)?.call(store, self.arguments(), &mut results)?;
        Ok(results)
    }
}

fn start(module: &Module) -> core::result::Result<Entry, String> {
    match module.get_export(START) {
        Some(ExternType::Func(of)) if of.params().len() + of.results().len() == 0 => {
            Ok(Entry::Start)
        }
        _ => Err(format!("the module has no `{START}`, so it is no command; {}", offer(module))),
    }
}

fn call(
    module: &Module,
    name: &str,
    words: &[impl AsRef<str>],
) -> core::result::Result<Entry, String> {
    let Some(ExternType::Func(of)) = module.get_export(name) else {
        return Err(format!("the module exports no function `{name}`; {}", offer(module)));
    };
    let arguments = values::parse(name, &of, words)?;
    Ok(Entry::Function { name: name.to_owned(), arguments, results: of.results().len() })
}

/// The functions that there are to call, the first few of them.
fn offer(module: &Module) -> String {
    const MOST: usize = 12;
    let functions = module.exports().filter(|export| export.ty().func().is_some());
    let names: Vec<_> = functions.map(|export| format!("`{}`", export.name())).collect();
    match names.len() {
        0 => "it exports no function".into(),
        n if n > MOST => format!("it exports {}, and more", names[..MOST].join(", ")),
        _ => format!("it exports {}", names.join(", ")),
    }
}
