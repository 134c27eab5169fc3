//! Mistakes of the caller's with modules: one clear message with a hint, exit status 125, and nothing
//! run.

use std::fs;

use super::invoke::mistaken;
use super::runs::HELLO;
use super::{OF_THE_COMMAND_LINE, Shelf, module};
use crate::conformance::bad_input::refused;
use crate::{Behaviour, Captured, NO_FLAGS, Route, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "module-missing",
        "a module that is not there, or is no file, is refused",
        module_missing,
    ),
    module(
        "module-that-is-none",
        "a file that is empty, text, zeroes or something else is refused as a module",
        module_that_is_none,
    ),
    module(
        "module-cut-off",
        "a module of which some is missing at the end is refused, wherever it was cut",
        module_cut_off,
    ),
    module(
        "module-not-valid",
        "a module with a mistake in it is refused, with what is wrong",
        module_not_valid,
    ),
    module(
        "module-without-start",
        "a module that nothing starts is refused, and says so",
        module_without_start,
    ),
    module(
        "module-unknown-imports",
        "a module that needs what nobody gives it is refused, with the name of that",
        module_unknown_imports,
    ),
    module(
        "module-not-to-be-read",
        "a module that the caller may not read is refused",
        module_not_to_be_read,
    ),
    module(
        "module-or-nothing",
        "a backend of modules is told of a program that it runs none",
        module_or_nothing,
    )
    .only(Route::Cold, OF_THE_COMMAND_LINE),
    module(
        "module-for-another-backend",
        "a module is refused by a backend that runs programs",
        module_for_another_backend,
    )
    .only(Route::Cold, OF_THE_COMMAND_LINE),
];

fn module_missing(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    shelf.scratch.folder("folder.wasm")?;
    std::os::unix::fs::symlink("nowhere", shelf.scratch.path().join("dangling.wasm"))?;
    for name in ["no-such-module.wasm", "no/such/folder/module.wat", "folder.wasm", "dangling.wasm"]
    {
        let path = shelf.scratch.path().join(name);
        let command = subject.run_module(&shelf.scratch, &NO_FLAGS, &path, &NO_FLAGS);
        refused(&Captured::of(command)?, &[name])?;
    }
    Ok(())
}

fn module_that_is_none(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let zeroes = vec![0; 10 << 20];
    let elf = fs::read("/proc/self/exe")?;
    let elf = elf.get(..64 << 10).unwrap_or(&elf);
    for (name, content) in [
        ("empty.wasm", &b""[..]),
        ("empty.wat", b""),
        ("space.wat", b" \n"),
        ("text.wasm", b"this is no module\n"),
        ("text.wat", b"this is no module\n"),
        ("script.wasm", b"#!/bin/sh\necho ran\n"),
        ("open.wat", b"(module (func"),
        ("parentheses.wat", &[b'('; 100_000]),
        ("bytes.wat", b"(module \xff\xfe)"),
        ("zeroes.wasm", &zeroes),
        ("program.wasm", elf),
        ("magic.wasm", b"\0asm"),
        ("version.wasm", b"\0asm\x02\0\0\0"),
        ("layer.wasm", b"\0asm\x0d\0\x07\0"),
        ("ones.wasm", &[b"\0asm\x01\0\0\0", &[0xff; 1000][..]].concat()),
    ] {
        let got = shelf.run_content(name, content, &[])?;
        refused(&got, &[]).map_err(|why| why.within(name))?;
    }
    Ok(())
}

fn module_cut_off(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let whole = HELLO.concat();
    for kept in [4, 7, 9, 20, 24, 60, whole.len() / 2, whole.len() - 14, whole.len() - 1] {
        let cut = whole.get(..kept).unwrap_or_default();
        let got = shelf.run_content("cut.wasm", cut, &[])?;
        refused(&got, &[]).map_err(|why| why.within(&format!("{kept} bytes")))?;
    }
    let longer = [&whole[..], b"and more"].concat();
    refused(&shelf.run_content("longer.wasm", longer, &[])?, &[])?;
    Ok(())
}

fn module_not_valid(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for (text, part) in [
        ("(module (func (export \"_start\") (i32.const 1)))", "type mismatch"),
        ("(module (func (export \"_start\") (call $none)))", "$none"),
        ("(module (func (export \"_start\") (i32.load (i32.const 0)) drop))", "memory"),
        ("(module (func (export \"_start\") (local.get 3) drop))", "local"),
        ("(module (func $a) (export \"a\" (func $a)) (export \"a\" (func $a)))", "duplicate"),
    ] {
        refused(&shelf.run_content("invalid.wat", text, &[])?, &[part])?;
    }
    Ok(())
}

fn module_without_start(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for text in ["(module)", "(module (memory (export \"_start\") 1))"] {
        refused(&shelf.run_content("startless.wat", text, &[])?, &["_start"])?;
    }
    // What has other functions may be made for those, which only the command tells.
    for text in
        ["(module (func (export \"start\")))", "(module (func (export \"_start\") (param i32)))"]
    {
        mistaken(&shelf.run_content("startless.wat", text, &[])?, &["_start"])?;
    }
    Ok(())
}

fn module_unknown_imports(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for (module, name, kind) in [
        ("env", "launch_missiles", "(func)"),
        ("wasi_snapshot_preview1", "fd_frobnicate", "(func)"),
        ("wasi_snapshot_preview1", "fd_write", "(func (param i64))"),
        ("env", "shared_memory", "(memory 1)"),
        ("env", "a_table", "(table 1 funcref)"),
        ("env", "a_global", "(global i32)"),
    ] {
        let text =
            format!("(module (import \"{module}\" \"{name}\" {kind}) (func (export \"_start\")))");
        refused(&shelf.run_content("needy.wat", text, &[])?, &[module, name])?;
    }
    Ok(())
}

fn module_not_to_be_read(subject: &Subject) -> Verdict {
    use std::os::unix::fs::{PermissionsExt, chown};
    let shelf = Shelf::new(subject)?;
    let file = shelf.scratch.file("closed.wasm", HELLO.concat())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000))?;
    if subject.caller.is_root() {
        crate::skip!("root may read everything");
    }
    if rustix::process::geteuid().is_root() {
        chown(&file, Some(0), Some(0))?;
    }
    let command = subject.run_module(&shelf.scratch, &NO_FLAGS, &file, &NO_FLAGS);
    refused(&Captured::of(command)?, &["closed.wasm", "ermission denied"])?;
    Ok(())
}

fn module_or_nothing(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let run =
        |words: &[&str]| shelf.agentkernel(&[&["run", "-B", &subject.backend], words].concat());
    for words in [&["--", "echo", "hi"][..], &["echo"], &["--image", "host", "echo"], &[]] {
        let got = run(words)?;
        refused(&got, &[])?;
        ensure!(got.errors().contains("odule"), "expected word of a module: {got}");
    }
    Ok(())
}

fn module_for_another_backend(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let file = shelf.file("hello")?;
    let file = file.to_string_lossy();
    let got = shelf.agentkernel(&["run", "-B", "native", "--image", &*file])?;
    refused(&got, &["native", "module"])?;
    Ok(())
}
