//! What can be compiled, and what is refused with which words.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use agentkernel_wasm_engine::{ModuleError, compile};

const HELLO: &str = include_str!("modules/hello.wat");
const COMPONENT: &str = include_str!("modules/component.wat");

fn refusal(bytes: &[u8]) -> ModuleError {
    let error = compile(bytes).unwrap_err();
    assert!(!error.hint().is_empty());
    error
}

#[test]
fn a_module_is_compiled_from_text_and_from_its_binary_form_to_the_same() {
    let from_text = compile(HELLO.as_bytes()).unwrap();
    let from_binary = compile(&wat::parse_str(HELLO).unwrap()).unwrap();
    assert_eq!(from_text, from_binary);
}

#[test]
fn a_component_is_compiled_from_both_forms() {
    compile(COMPONENT.as_bytes()).unwrap();
    compile(&wat::parse_str(COMPONENT).unwrap()).unwrap();
}

#[test]
fn what_is_no_webassembly_is_told_so() {
    assert!(matches!(refusal(b""), ModuleError::Empty));
    assert!(matches!(refusal(b"\0as"), ModuleError::Truncated(3)));
    assert!(matches!(refusal(b"#!/bin/sh\necho hello\n"), ModuleError::NotWasm));
    assert!(matches!(refusal(b"\x7fELF\x02\x01\x01"), ModuleError::NotWasm));
    assert!(matches!(refusal(&vec![0; 10 << 20]), ModuleError::NotWasm));
    assert!(matches!(refusal(&compile(HELLO.as_bytes()).unwrap()), ModuleError::NotWasm));
}

#[test]
fn a_file_that_is_too_large_is_not_even_looked_at() {
    assert!(matches!(refusal(&vec![0; (256 << 20) + 1]), ModuleError::TooLarge(_)));
}

#[test]
fn where_a_text_is_wrong_is_told() {
    let error = refusal(b"(module\n  (func (export \"_start\")\n    (i32.cons 5)))").to_string();
    assert!(error.contains("line 3, column 6"), "{error}");
    assert!(matches!(refusal(b"(((((("), ModuleError::Text(_)));
    assert!(matches!(refusal(b";; nothing"), ModuleError::Text(_)));
    let deep = "(".repeat(1 << 20);
    assert!(matches!(refusal(deep.as_bytes()), ModuleError::Text(_)));
}

/// Code of another version is another's, and a program without the engine can't ask which that is.
#[test]
fn the_form_of_code_names_the_version_that_is_built_in() {
    let lock = include_str!("../../../../Cargo.lock");
    let (_, rest) = lock.split_once("name = \"wasmtime\"\nversion = \"").unwrap();
    let form = format!("wasmtime {}, ", rest.split_once('"').unwrap().0);
    for known in [agentkernel_wasm::WASM_CODE, agentkernel_wasm::HYPERLIGHT_CODE] {
        assert!(known.is.starts_with(&form), "{known:?} is not of {form}");
    }
}

/// Each file that is cut off is refused, and nearly each is told to be just that.
#[test]
fn a_file_that_was_cut_off_is_refused() {
    for text in [HELLO, COMPONENT] {
        let whole = wat::parse_str(text).unwrap();
        let is_called_so = |len: &usize| matches!(compile(&whole[..*len]), Err(ModuleError::Truncated(told)) if told == *len);
        let mut refused = 0;
        for len in 1..whole.len() {
            refused += usize::from(compile(&whole[..len]).is_err());
        }
        let called_so = (1..whole.len()).filter(is_called_so).count();
        // At the end of a section nothing seems to be missing.
        assert!(called_so > whole.len() / 2, "{called_so} of {}", whole.len());
        assert!(refused > whole.len() * 9 / 10, "{refused} of {}", whole.len());
    }
}

/// Whatever is wrong, it is an error and no panic.
#[test]
fn a_file_with_any_byte_changed_is_refused_or_compiled() {
    for text in [HELLO, COMPONENT] {
        let whole = wat::parse_str(text).unwrap();
        // The large one has enough bytes of each kind.
        for at in (0..whole.len()).step_by(whole.len() / 100) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            let _ = compile(&changed);
        }
    }
}

#[test]
fn the_first_import_that_there_is_not_is_named() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "env" "draw" (func))
        (import "env" "other" (func))
        (func (export "_start")))"#;
    let error = refusal(text.as_bytes()).to_string();
    assert!(error.contains("`env.draw`"), "{error}");
}

#[test]
fn an_import_of_another_type_is_told() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i64)))
        (func (export "_start")))"#;
    let error = refusal(text.as_bytes());
    assert!(matches!(error, ModuleError::Import(_)));
    assert!(error.to_string().contains("fd_write"), "{error}");
}

#[test]
fn a_components_unknown_import_is_named() {
    let text = r#"(component
        (import "home:lights/switch@1.0.0" (instance (export "flip" (func)))))"#;
    let error = refusal(text.as_bytes());
    assert!(matches!(error, ModuleError::Import(_)));
    assert!(error.to_string().contains("home:lights/switch"), "{error}");
}

#[test]
fn what_has_nothing_to_run_is_refused() {
    assert!(matches!(refusal(b"(module)"), ModuleError::NothingToRun));
    assert!(matches!(
        refusal(b"(module (memory (export \"memory\") 1))"),
        ModuleError::NothingToRun
    ));
    assert!(matches!(refusal(b"(component)"), ModuleError::NoCommand));
    // A library has, by the names of its functions.
    compile(b"(module (func (export \"add\")))").unwrap();
}

#[test]
fn what_is_not_valid_is_told() {
    let text = r#"(module (func (export "_start") (result i32)))"#;
    assert!(matches!(refusal(text.as_bytes()), ModuleError::Invalid(_)));
    assert!(matches!(refusal(b"\0asm\x07\0\0\0"), ModuleError::Invalid(_)));
}
