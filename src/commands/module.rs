//! Sandboxes whose program is a WebAssembly module: which file that is, and who runs it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentkernel_core::{Backend, Capability};
use agentkernel_images::Images;
use agentkernel_wire::{BuildRequest, ImageRequest, SpecRequest, is_module_name};

/// What every module in binary form begins with.
const MAGIC: [u8; 4] = *b"\0asm";

/// The names of the backends that run modules, in their order.
pub(super) fn runners(backends: &[&'static dyn Backend]) -> Vec<&'static str> {
    let runs = |one: &&&dyn Backend| one.capabilities().has(Capability::ImageModule);
    backends.iter().filter(runs).map(|one| one.name()).collect()
}

/// Takes the first word of a command for the image, if it is a module and nobody has said what the
/// image is; it may be relative to `here`. A `--` after it goes too, since it only parts the module
/// from its arguments. Returns whether it was one.
pub(super) fn take(
    request: &mut SpecRequest,
    words: &mut Vec<OsString>,
    here: Option<&Path>,
    runners: &[&str],
) -> bool {
    let is_said = request.image.is_some() || matches!(request.build, Some(BuildRequest::On(_)));
    let Some(first) = words.first().filter(|_| !is_said) else { return false };
    let file = here.map_or_else(|| PathBuf::from(first), |here| here.join(first));
    let is_module = match request.backend.as_deref() {
        None => is_module(first, &file),
        // Such a backend runs nothing else, so that what is wrong with the word is said of a module.
        Some(backend) => runners.contains(&backend),
    };
    if is_module {
        let parted = words.get(1).is_some_and(|word| word == "--");
        words.drain(..=usize::from(parted));
        request.image = Some(ImageRequest::Module(file));
    }
    is_module
}

/// Has a request for a module go to the first backend that runs modules, if it names none and there
/// is one. A name is a module's if that is here, or if a function is called. Returns whether.
pub(super) fn choose_backend(request: &mut SpecRequest, runners: &[&str], calls: bool) -> bool {
    let is_module = || match &request.image {
        Some(ImageRequest::Module(_)) => true,
        Some(ImageRequest::Reference(name)) => calls || is_kept(name),
        _ => false,
    };
    if request.backend.is_some() || !is_module() {
        return false;
    }
    request.backend = runners.first().map(|name| (*name).to_owned());
    request.backend.is_some()
}

/// Whether the store of images has a module of this name. What is wrong with it says whoever needs it.
fn is_kept(name: &str) -> bool {
    let found = Images::of_caller().and_then(|images| images.open(name));
    found.is_ok_and(|found| found.is_some_and(|image| image.module().is_some()))
}

/// Whether `word` names this file as a program, and it is a module. A word without a slash is looked
/// up in the sandbox, so of such only one that ends as modules do is meant: else a file that somebody
/// has left here could stand for any program.
fn is_module(word: &OsStr, file: &Path) -> bool {
    let is_named_so = is_module_name(word);
    // Opening a pipe would wait for its writer, so the kind is asked first.
    (is_named_so || word.as_bytes().contains(&b'/'))
        && file.is_file()
        && (is_named_so || begins_as_module(file))
}

fn begins_as_module(file: &Path) -> bool {
    let mut begin = [0; MAGIC.len()];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == MAGIC
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    /// What comes of these words, in a folder with modules and what only looks like them.
    fn taken(request: &mut SpecRequest, words: &[&str]) -> (bool, Vec<OsString>, PathBuf) {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let here = env::temp_dir().join(format!("module-{}-{count}", process::id()));
        fs::create_dir_all(here.join("dir.wasm")).unwrap();
        for (name, content) in [
            ("app.wasm", &b""[..]),
            ("app.wat", b"(module)"),
            ("app", b"\0asm\x01\0\0\0"),
            ("text", b"\0as"),
            ("prog", b"#!/bin/sh"),
        ] {
            fs::write(here.join(name), content).unwrap();
        }
        let mut words: Vec<_> = words.iter().map(OsString::from).collect();
        let taken = take(request, &mut words, Some(&here), &["wasm", "other"]);
        fs::remove_dir_all(&here).unwrap();
        (taken, words, here)
    }

    #[test]
    fn a_first_word_that_is_a_module_is_the_image_and_goes_with_the_dashes_after_it() {
        for (words, file, rest) in [
            (&["app.wasm"][..], "app.wasm", &[][..]),
            (&["app.wat", "a", "--", "b"], "app.wat", &["a", "--", "b"]),
            (&["./app", "--", "-x"], "./app", &["-x"]),
            (&["app.wasm", "--", "--"], "app.wasm", &["--"]),
            (&["app.wasm", ""], "app.wasm", &[""]),
        ] {
            let mut request = SpecRequest::default();
            let (is_taken, left, here) = taken(&mut request, words);
            assert!(is_taken, "{words:?}");
            assert_eq!(left, rest, "{words:?}");
            assert_eq!(request.image, Some(ImageRequest::Module(here.join(file))));
            assert!(choose_backend(&mut request, &["wasm", "other"], false));
            assert_eq!(request.backend.as_deref(), Some("wasm"));
        }
    }

    #[test]
    fn other_first_words_are_programs() {
        for words in [
            &[][..],
            &["app"],
            &["gone.wasm"],
            &["dir.wasm"],
            &["./text"],
            &["./prog"],
            &["prog", "app.wasm"],
            &["--", "app.wasm"],
            &[""],
            &["/"],
        ] {
            let mut request = SpecRequest::default();
            let (is_taken, left, _) = taken(&mut request, words);
            assert!(!is_taken && left == words, "{words:?}");
            assert!(!choose_backend(&mut request, &["wasm"], true));
            assert_eq!(request, SpecRequest::default());
        }
    }

    #[test]
    fn what_somebody_has_said_of_the_image_or_the_backend_stands() {
        let image = |image| SpecRequest { image: Some(image), ..SpecRequest::default() };
        let backend = |name: &str| SpecRequest { backend: Some(name.into()), ..Default::default() };
        let build = Some(BuildRequest::On(None));
        for request in [
            image(ImageRequest::Host),
            image(ImageRequest::Auto),
            image(ImageRequest::Module("/other.wasm".into())),
            SpecRequest { build, ..SpecRequest::default() },
            backend("native"),
            backend("gone"),
        ] {
            let mut asked = request.clone();
            let (is_taken, left, _) = taken(&mut asked, &["app.wasm", "--"]);
            assert!(!is_taken && left == ["app.wasm", "--"], "{request:?}");
            assert_eq!(asked, request);
        }
        for name in ["wasm", "other"] {
            for word in ["app.wasm", "gone", "dir.wasm", "prog"] {
                let mut asked = backend(name);
                let (is_taken, left, here) = taken(&mut asked, &[word, "--", "a"]);
                assert!(is_taken && left == ["a"], "{name} {word}");
                assert_eq!(asked.image, Some(ImageRequest::Module(here.join(word))));
                assert!(!choose_backend(&mut asked, &["wasm", "other"], false));
                assert_eq!(asked.backend.as_deref(), Some(name));
            }
        }
    }

    #[test]
    fn a_module_without_a_backend_goes_to_the_first_that_runs_modules() {
        let module = || SpecRequest {
            image: Some(ImageRequest::Module("/app.wasm".into())),
            ..SpecRequest::default()
        };
        let mut request = module();
        assert!(choose_backend(&mut request, &["wasm", "other"], false));
        assert_eq!(request, SpecRequest { backend: Some("wasm".into()), ..module() });
        let mut request = module();
        assert!(!choose_backend(&mut request, &[], false));
        assert_eq!(request, module());
        let image = Some(ImageRequest::Reference("localhost/nowhere".into()));
        let mut request = SpecRequest { image, ..SpecRequest::default() };
        assert!(!choose_backend(&mut request, &["wasm"], false));
        assert!(choose_backend(&mut request, &["wasm"], true));
    }
}
