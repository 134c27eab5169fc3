//! Code that is kept for the next time: it makes no difference but of time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Shelf, module};
use crate::host::tree;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Route, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "module-cache-is-private",
        "what is kept of a module is the caller's own, and closed to others",
        module_cache_is_private,
    ),
    module(
        "module-cache-poisoned",
        "what is kept of a module and has changed since is never run",
        module_cache_poisoned,
    ),
    module(
        "module-cache-foreign",
        "what others could have written is never taken for what was kept of a module",
        module_cache_foreign,
    ),
    module(
        "module-cache-of-no-use",
        "a module runs as well where nothing can be kept of it",
        module_cache_of_no_use,
    ),
    module(
        "module-cache-full",
        "a module runs as well where the disk for what is kept of it is full",
        module_cache_full,
    ),
    module(
        "module-changed",
        "a module that has changed runs as it is now, even within the same moment",
        module_changed,
    ),
    module(
        "module-first-runs-at-once",
        "the first runs of a module all succeed, started together",
        module_first_runs_at_once,
    )
    .only(Route::Cold, "the others' steps have begun by then"),
];

/// Runs the module with its cache in this folder: it says hello.
fn hello(shelf: &Shelf<'_>, cache: &Path) -> Verdict {
    says(shelf, cache, "hello", "hello\n")
}

fn says(shelf: &Shelf<'_>, cache: &Path, module: &str, expected: &str) -> Verdict {
    let mut command = shelf.command(&NO_FLAGS, module, &NO_FLAGS)?;
    command.env("XDG_CACHE_HOME", cache);
    Captured::of(command)?.exits(0)?.prints(expected)?.complains("")?;
    Ok(())
}

/// The files that are kept, the largest first.
fn kept(cache: &Path) -> Result<Vec<PathBuf>, NotPassed> {
    let mut files: Vec<PathBuf> = tree(cache).into_keys().filter(|path| path.is_file()).collect();
    files.sort_by_key(|path| std::cmp::Reverse(path.metadata().map_or(0, |data| data.len())));
    if files.is_empty() {
        skip!("nothing is kept in {}", cache.display());
    }
    Ok(files)
}

/// Waits until a file that is there now counts as one that rests.
fn rest() {
    #[expect(clippy::disallowed_methods, reason = "only time makes a file old")]
    std::thread::sleep(std::time::Duration::from_millis(150));
}

fn module_cache_is_private(subject: &Subject) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    let shelf = Shelf::new(subject)?;
    let cache = shelf.scratch.folder("cache")?;
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755))?;
    hello(&shelf, &cache)?;
    for path in kept(&cache)? {
        let (data, folder) = (path.metadata()?, path.parent().unwrap_or(&path).metadata()?);
        let private = data.mode() & 0o022 == 0 && folder.mode() & 0o077 == 0;
        ensure!(private, "others get at {}", path.display());
        ensure!(data.uid() == subject.caller.uid(), "{} is another's", path.display());
    }
    Ok(())
}

/// What a change makes of a file.
type Change = fn(&[u8]) -> Vec<u8>;

/// Ways in which a file may have changed.
const CHANGES: [(&str, Change); 6] = [
    ("one byte in the middle", |old| {
        let half = old.len() / 2;
        old.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == half)).collect()
    }),
    ("every byte", |old| old.iter().map(|byte| !byte).collect()),
    ("the last byte", |old| {
        let last = old.len().saturating_sub(1);
        old.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == last)).collect()
    }),
    ("its length", |old| old.iter().take(old.len() / 2).copied().collect()),
    ("all that it was", |_| Vec::new()),
    ("its end", |old| [old, b"\0\0\0\0and more"].concat()),
];

fn module_cache_poisoned(subject: &Subject) -> Verdict {
    for (what, change) in CHANGES {
        let shelf = Shelf::new(subject)?;
        let cache = shelf.scratch.folder("cache")?;
        shelf.file("hello")?;
        rest();
        hello(&shelf, &cache)?;
        hello(&shelf, &cache)?;
        for path in kept(&cache)? {
            fs::write(&path, change(&fs::read(&path)?))?;
        }
        for _ in 0..2 {
            hello(&shelf, &cache).map_err(|why| why.within(&format!("changed {what}")))?;
        }
    }
    one_for_another(subject)
}

/// The code of one module in the place of another's.
fn one_for_another(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let cache = shelf.scratch.folder("cache")?;
    let both = [("hello", "hello\n"), ("args", "args.wat\0")];
    for (module, _) in both {
        shelf.file(module)?;
    }
    rest();
    both.iter().try_for_each(|(module, expected)| says(&shelf, &cache, module, expected))?;
    let files = kept(&cache)?;
    let [one, other, ..] = &files[..] else { skip!("all is in one file") };
    let (first, second) = (fs::read(one)?, fs::read(other)?);
    fs::write(one, second)?;
    fs::write(other, first)?;
    let verdict =
        both.iter().try_for_each(|(module, expected)| says(&shelf, &cache, module, expected));
    verdict.map_err(|why| why.within("changed places"))
}

fn module_cache_foreign(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let cache = shelf.scratch.folder("cache")?;
    shelf.file("hello")?;
    rest();
    hello(&shelf, &cache)?;
    // Everybody could have written these.
    for path in tree(&cache).into_keys() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    }
    for path in kept(&cache)? {
        fs::write(&path, vec![0xcc; 4096])?;
    }
    hello(&shelf, &cache)?;
    // Links lead to what is somebody else's.
    let precious = shelf.scratch.file("precious", "precious")?;
    for path in kept(&cache)? {
        fs::remove_file(&path)?;
        std::os::unix::fs::symlink(&precious, &path)?;
    }
    hello(&shelf, &cache)?;
    ensure!(fs::read_to_string(&precious)? == "precious", "what a link led to was changed");
    Ok(())
}

fn module_cache_of_no_use(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let file = shelf.scratch.file("file", "no folder")?;
    let closed = shelf.scratch.folder("closed")?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500))?;
    let half = shelf.scratch.folder("half")?;
    shelf.scratch.file("half/agentkernel", "no folder")?;
    // Nobody may make folders in the second to last, root neither; the last is no path.
    let cases = [&file, &closed, &half, Path::new("/proc"), Path::new("")];
    for cache in cases {
        for _ in 0..2 {
            hello(&shelf, cache).map_err(|why| why.within(&cache.display().to_string()))?;
        }
    }
    ensure!(fs::read_to_string(&file)? == "no folder", "the file was changed");
    Ok(())
}

/// With room for the first kind of file, or for none.
fn module_cache_full(subject: &Subject) -> Verdict {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can make a disk that is full");
    }
    let shelf = Shelf::new(subject)?;
    let cache = shelf.scratch.folder("cache")?;
    for room in ["nr_inodes=1", "size=4k", "size=8k,nr_inodes=6"] {
        let script = format!(
            "mount -t tmpfs -o mode=0777,{room} none '{}' || exit 77; \
             exec setpriv --reuid {} --regid {} --clear-groups \"$0\" \"$@\"",
            cache.display(),
            subject.caller.uid(),
            subject.caller.gid()
        );
        let mut command = shelf.command(&NO_FLAGS, "hello", &NO_FLAGS)?;
        command.env("XDG_CACHE_HOME", &cache);
        let unshare = ["unshare", "--mount", "sh", "-c", &script];
        let got = Captured::of(crate::Caller::Me.through(&unshare, &command))?;
        if got.status.code() == Some(77) {
            skip!("this machine does not let root mount: {got}");
        }
        got.exits(0)?.prints("hello\n")?.complains("")?;
    }
    Ok(())
}

fn module_changed(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for word in ["hello", "HELLO", "hallo", "world"] {
        let text = super::HELLO.replace("hello", word);
        let got = shelf.run_content("changing.wat", text, &[])?;
        got.exits(0)?.prints(format!("{word}\n"))?.complains("")?;
    }
    Ok(())
}

fn module_first_runs_at_once(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    shelf.file("hello")?;
    let started: Result<Vec<_>, _> =
        (0..8).map(|_| shelf.start(&NO_FLAGS, "hello", &NO_FLAGS)).collect();
    for running in started? {
        running.finish()?.exits(0)?.prints("hello\n")?.complains("")?;
    }
    Ok(())
}
