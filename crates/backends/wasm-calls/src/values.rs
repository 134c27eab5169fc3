//! A function's arguments and results, as words.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wasmtime::{FuncType, Val, ValType};

/// Reads the arguments of `function`, which is of this type. The error is for people.
pub(crate) fn parse(
    function: &str,
    of: &FuncType,
    words: &[impl AsRef<str>],
) -> Result<Vec<Val>, String> {
    let types: Vec<_> = of.params().collect();
    if types.len() != words.len() {
        let wanted = match types.len() {
            0 => "no arguments".to_owned(),
            n => format!("{n} ({})", listed(&types)),
        };
        return Err(format!("the function `{function}` takes {wanted}, not {}", words.len()));
    }
    let each = (1..).zip(types.iter().zip(words));
    each.map(|(number, (of, word))| {
        value(of, word.as_ref()).ok_or_else(|| match is_number(of) {
            true => format!("argument {number} of `{function}` must be {of}: {:?}", word.as_ref()),
            false => format!("argument {number} of `{function}` is {of}, which words can't give"),
        })
    })
    .collect()
}

fn listed(types: &[ValType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_number(of: &ValType) -> bool {
    matches!(of, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64)
}

fn value(of: &ValType, word: &str) -> Option<Val> {
    match of {
        ValType::I32 => word.parse().ok().map(Val::I32),
        ValType::I64 => word.parse().ok().map(Val::I64),
        ValType::F32 => word.parse().ok().map(|value: f32| Val::F32(value.to_bits())),
        ValType::F64 => word.parse().ok().map(|value: f64| Val::F64(value.to_bits())),
        _ => None,
    }
}

/// The results, one a line, as wasmtime's command line prints them.
pub fn lines(values: &[Val]) -> String {
    let line = |value: &Val| match value {
        Val::I32(value) => format!("{value}\n"),
        Val::I64(value) => format!("{value}\n"),
        Val::F32(bits) => format!("{}\n", f32::from_bits(*bits)),
        Val::F64(bits) => format!("{}\n", f64::from_bits(*bits)),
        Val::V128(value) => format!("{}\n", value.as_u128()),
        other if other.ref_().is_some_and(|value| value.is_null()) => "<null>\n".into(),
        _ => "<reference>\n".into(),
    };
    values.iter().map(line).collect()
}
