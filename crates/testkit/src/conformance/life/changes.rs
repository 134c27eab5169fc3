//! What a sandbox has changed: told, carried to the host, and exported.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use agentkernel_core::Capability;
use serde_json::Value;

use super::{Home, change, told};
use crate::host::tree;
use crate::{Behaviour, Captured, NotPassed, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    change(
        "diff-lists-changes",
        "diff lists what was added, changed and deleted, of a running and a stopped sandbox",
        diff_lists_changes,
    ),
    change(
        "diff-as-a-patch",
        "diff --patch gives a patch that makes of the original what the sandbox has",
        diff_as_a_patch,
    ),
    change(
        "apply-carries-changes",
        "apply makes the host's project what the sandbox has made of it, modes and links too",
        apply_carries_changes,
    ),
    change(
        "apply-some-paths",
        "apply with paths carries what is at them and under them, and nothing else",
        apply_some_paths,
    ),
    change(
        "apply-refuses-conflicts",
        "what the host has changed meanwhile is not overwritten, unless --force is given",
        apply_refuses_conflicts,
    ),
    change(
        "apply-stays-in-the-project",
        "apply writes nothing outside of the project, whatever links either side has made",
        apply_stays_in_the_project,
    ),
    change(
        "apply-is-atomic",
        "whoever reads the project while apply runs sees each file as it was or as it will be",
        apply_is_atomic,
    ),
    told(
        "export-is-a-layer",
        "export gives a tar of what was changed, with whiteouts for what was deleted",
        export_is_a_layer,
    ),
    change(
        "run-keep",
        "run --keep leaves a stopped sandbox with its changes, and says its name",
        run_keep,
    ),
];

/// Changes the project in every way there is.
const CHANGE: &str = "set -e; echo new > changed; rm deleted; echo added > added; \
    mkdir -p made/deep; echo deep > made/deep/file; ln -s kept link; chmod 600 kept; \
    rm -r folder; mkdir folder; echo again > folder/again; mv added 'two words'; : > empty";

/// What diff says of it, below the project's own path.
const CHANGES: [&str; 11] = [
    "C /changed",
    "D /deleted",
    "A /empty",
    "A /folder/again",
    "D /folder/file",
    "C /kept",
    "A /link",
    "A /made",
    "A /made/deep",
    "A /made/deep/file",
    "A /two words",
];

/// The lines of `diff`, those about the project only, with paths below it.
fn changes_in(home: &Home<'_>, name: &str, project: &Path) -> Result<Vec<String>, NotPassed> {
    let text = home.does(&["diff", name])?;
    let top = project.display().to_string();
    let line = |line: &str| {
        let (kind, path) = line.split_once(' ')?;
        Some(format!("{kind} {}", path.strip_prefix(&top)?))
    };
    let all: Vec<String> = text.lines().filter_map(line).collect();
    Ok(all.into_iter().filter(|line| !["C ", "C /folder"].contains(&line.as_str())).collect())
}

fn diff_lists_changes(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    let none = home.does(&["diff", &name])?;
    ensure!(none.is_empty(), "nothing was changed, and diff says {none:?}");
    home.shell(&name, CHANGE)?.exits(0)?.complains("")?;
    home.shell(&name, "echo home > ~/file")?.exits(0)?;
    let running = changes_in(&home, &name, &project)?;
    ensure!(running == CHANGES, "diff of a running one says {running:?}, not {CHANGES:?}");
    home.does(&["stop", &name])?;
    let stopped = changes_in(&home, &name, &project)?;
    ensure!(stopped == CHANGES, "diff of a stopped one says {stopped:?}, not {CHANGES:?}");
    let all = home.does(&["diff", &name])?;
    let home_is_told = all.lines().any(|line| line == "A /home/agent/file");
    let expected = subject.has(Capability::RootChanges);
    ensure!(home_is_told == expected, "the home is told of: {home_is_told}, not {expected}: {all}");
    let paths: Vec<&str> = all.lines().filter_map(|line| line.get(2..)).collect();
    ensure!(paths.is_sorted(), "diff is not sorted: {all}");
    let json = home.json(&["diff", "--json", &name])?;
    ensure!(json.to_string().contains("/changed"), "the JSON says nothing: {json}");
    Ok(())
}

fn diff_as_a_patch(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    let script = "printf 'one\\ntwo\\n' > kept; echo added > added; rm deleted; \
                  printf 'no end of line' > changed; printf 'a\\0b' > binary";
    home.shell(&name, script)?.exits(0)?;
    let patch = home.does(&["diff", "--patch", &name])?;
    let expected = ["-kept", "+one", "+two", "+added", "-gone", "No newline at end of file"];
    let missing = expected.iter().find(|part| !patch.contains(**part));
    ensure!(missing.is_none(), "no {missing:?} in the patch: {patch}");
    ensure!(!patch.contains("a\0b"), "what is no text is shown as text");
    // It is a patch that others understand.
    let copy = home.scratch.folder("copy")?;
    for file in ["kept", "changed", "deleted"] {
        fs::copy(project.join(file), copy.join(file))?;
    }
    let file = home.scratch.file("patch", &patch)?;
    let mut command = Command::new("patch");
    command.args(["-p1", "--input"]).arg(file).current_dir(&copy);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Ok(running) = crate::Running::start(command) {
        running.finish()?.exits(0)?;
        let read = |name: &str| fs::read_to_string(copy.join(name)).unwrap_or_default();
        let found = [read("kept"), read("changed"), read("added"), read("deleted")];
        let expected = ["one\ntwo\n", "no end of line", "added\n", ""];
        ensure!(found == expected, "the patch makes {found:?}, not {expected:?}");
    }
    Ok(())
}

fn apply_carries_changes(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    home.shell(&name, &format!("{CHANGE}; chmod 755 made/deep/file"))?.exits(0)?.complains("")?;
    home.run(&["apply", &name])?.exits(0)?.complains("")?;
    let read = |name: &str| fs::read_to_string(project.join(name)).unwrap_or_default();
    let found = [
        read("changed"),
        read("two words"),
        read("made/deep/file"),
        read("folder/again"),
        read("link"),
        read("empty"),
    ];
    let expected = ["new\n", "added\n", "deep\n", "again\n", "kept\n", ""];
    ensure!(found == expected, "the host has {found:?}, not {expected:?}");
    for gone in ["deleted", "folder/file", "added"] {
        ensure!(project.join(gone).symlink_metadata().is_err(), "{gone} is still there");
    }
    for (name, mode) in [("kept", 0o600), ("made/deep/file", 0o755)] {
        let data = project.join(name).metadata()?;
        let (found, owner) = (data.mode() & 0o7777, (data.uid(), data.gid()));
        ensure!(found == mode, "{name} has the mode {found:o}, not {mode:o}");
        let caller = (subject.caller.uid(), subject.caller.gid());
        ensure!(owner == caller, "{name} belongs to {owner:?}, the caller is {caller:?}");
    }
    let link = fs::read_link(project.join("link"))?;
    ensure!(link == Path::new("kept"), "the link leads to {link:?}");
    // What has been carried over is no change any more, or the same is carried over again.
    home.run(&["apply", &name])?.exits(0)?;
    home.shell(&name, "cat changed kept 'two words'")?.exits(0)?.prints("new\nkept\nadded\n")?;
    Ok(())
}

fn apply_some_paths(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    home.shell(&name, CHANGE)?.exits(0)?.complains("")?;
    let path = |name: &str| project.join(name).into_os_string();
    let some = [OsString::from("apply"), (&name).into(), path("changed"), path("made")];
    home.run(&some)?.exits(0)?.complains("")?;
    let read = |name: &str| fs::read_to_string(project.join(name)).unwrap_or_default();
    let found = [read("changed"), read("made/deep/file"), read("deleted"), read("two words")];
    let expected = ["new\n", "deep\n", "gone\n", ""];
    ensure!(found == expected, "the host has {found:?}, not {expected:?}");
    let missing = home.run(&["apply", &name, "/no/such/path"])?;
    ensure!(!missing.status.success(), "a path that was not changed was carried: {missing}");
    Ok(())
}

fn apply_refuses_conflicts(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    let script = "echo inside > changed; echo inside > added; rm deleted; rm -r folder";
    home.shell(&name, script)?.exits(0)?;
    home.scratch.file(project.join("changed"), "outside\n")?;
    home.scratch.file(project.join("added"), "outside\n")?;
    home.scratch.file(project.join("deleted"), "outside\n")?;
    home.scratch.file(project.join("folder/new"), "outside\n")?;
    let before = tree(&project);
    let got = home.run(&["apply", &name])?;
    got.exits(1)?
        .mentions("changed")?
        .mentions("added")?
        .mentions("deleted")?
        .mentions("folder")?;
    let after = tree(&project);
    let kept = ["changed", "added", "deleted", "folder/new"].map(|name| project.join(name));
    let lost = kept.iter().find(|path| before.get(*path) != after.get(*path));
    ensure!(lost.is_none(), "the host's {lost:?} was overwritten: {got}");
    home.run(&["apply", "--force", &name])?.exits(0)?;
    let read = |name: &str| fs::read_to_string(project.join(name)).unwrap_or_default();
    let found = [read("changed"), read("added"), read("deleted")];
    ensure!(found == ["inside\n", "inside\n", ""], "by force the host got {found:?}");
    Ok(())
}

fn apply_stays_in_the_project(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let outside = home.scratch.folder("outside")?;
    home.scratch.file("outside/file", "outside\n")?;
    let before = tree(&outside);
    let name = home.started(&[&flag])?;
    // Links that lead out of the project are made inside, and a folder becomes one outside.
    let out = outside.display();
    let script = format!(
        "ln -s {out} escape; ln -s ../../outside relative; ln -s {out}/file file-link; \
         echo new > folder/file; mkdir sub; echo new > sub/file; mkfifo fifo; ln -s kept inner"
    );
    home.shell(&name, &script)?.exits(0)?.complains("")?;
    fs::remove_dir_all(project.join("folder"))?;
    symlink(&outside, project.join("folder"))?;
    symlink(&outside, project.join("sub"))?;
    for force in [&[][..], &["--force"]] {
        let got = home.run(&[&["apply"], force, &[&name]].concat())?;
        let after = tree(&outside);
        ensure!(before == after, "apply wrote outside of the project: {after:?}: {got}");
        if force.is_empty() {
            got.exits(1)?.mentions("folder")?.mentions("sub")?;
        }
        for link in ["escape", "relative", "file-link"] {
            let there = project.join(link).symlink_metadata().is_ok();
            ensure!(!there, "the link {link} leads out of the project: {got}");
            got.mentions(link)?;
        }
        let inner = fs::read_link(project.join("inner")).ok();
        ensure!(inner.is_some(), "a link within the project was not carried: {got}");
    }
    Ok(())
}

fn apply_is_atomic(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let (old, new) = ("o".repeat(8 << 20), "n".repeat(8 << 20));
    let file = home.scratch.file(project.join("large"), &old)?;
    let name = home.started(&[&flag])?;
    home.shell(&name, "tr o n < large > other; cat other > large; rm other")?.exits(0)?;
    // Whoever had it open keeps what was there.
    let held = fs::File::open(&file)?;
    let applying = home.start(&["apply", &name])?;
    let mut looks = 0;
    while !applying.ends_within(std::time::Duration::ZERO)? {
        let seen = fs::read_to_string(&file)?;
        ensure!(seen == old || seen == new, "{} bytes of a half-written file", seen.len());
        looks += 1;
    }
    applying.finish()?.exits(0)?;
    ensure!(fs::read_to_string(&file)? == new, "the change did not arrive after {looks} looks");
    ensure!(std::io::read_to_string(held)? == old, "the file was written in its place");
    let names: Vec<_> = tree(&project).into_keys().collect();
    let known = ["kept", "changed", "deleted", "folder", "folder/file", "large"];
    ensure!(names.len() == known.len(), "something else was left behind: {names:?}");
    Ok(())
}

/// The names in a tar, sorted.
fn names_in_tar(file: &Path) -> Result<Vec<String>, NotPassed> {
    let mut tar = Command::new("tar");
    tar.arg("-tf").arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let got = Captured::of(tar)?;
    let text = got.exits(0)?.text();
    let mut names: Vec<String> = text.lines().map(Into::into).collect();
    names.sort();
    Ok(names)
}

fn export_is_a_layer(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    home.shell(&name, CHANGE)?.exits(0)?.complains("")?;
    let file = home.scratch.path().join("work/layer.tar");
    let export = ["export".as_ref(), OsStr::new(&name), "-o".as_ref(), file.as_os_str()];
    home.run(&export)?.exits(0)?.prints("")?;
    let names = names_in_tar(&file)?;
    let top = project.strip_prefix("/").unwrap_or(&project).display().to_string();
    for expected in ["changed", ".wh.deleted", "made/deep/file", "folder/again", "two words"] {
        let path = format!("{top}/{expected}");
        let there = names.iter().any(|name| name.trim_start_matches("./") == path);
        ensure!(there, "no {path} in the layer: {names:?}");
    }
    let bad = names.iter().find(|name| name.split('/').any(|part| part == ".."));
    ensure!(bad.is_none(), "a name that leads out: {bad:?}");
    // Without -o it goes to the standard output, and it is the same.
    let mut to_output = home.command(&["export", &name]);
    let other = home.scratch.path().join("other.tar");
    to_output.stdout(fs::File::create(&other)?);
    Captured::of(to_output)?.exits(0)?;
    ensure!(names_in_tar(&other)? == names, "the two layers differ");
    Ok(())
}

fn run_keep(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let run = ["run", "-B", &subject.backend, "--keep", "--name", "kept-one", &flag, "--"];
    let script = ["sh", "-c", "echo new > changed; echo said; exit 3"];
    let got = home.run(&[&run[..], &script].concat())?;
    got.exits(3)?.prints("said\n")?.mentions("kept-one")?;
    home.is("kept-one", "stopped")?;
    let changes = changes_in(&home, "kept-one", &project)?;
    ensure!(changes == ["C /changed"], "diff says {changes:?}");
    home.run(&["apply", "kept-one"])?.exits(0)?;
    ensure!(fs::read_to_string(project.join("changed"))? == "new\n", "nothing was carried");
    let again = home.run(&[&run[..], &["true"]].concat())?;
    super::bad_input::refused(&again, &["kept-one"])?;
    // Without a name it gets one, and says it.
    let got = home.run(&["run", "-B", &subject.backend, "--keep", "--", "true"])?;
    got.exits(0)?.prints("")?;
    let other = home.listed()?.into_iter().find(|sandbox| sandbox["name"] != "kept-one");
    let other = other.unwrap_or(Value::Null);
    got.mentions(other["name"].as_str().unwrap_or("the name of what was kept"))?;
    ensure!(home.run(&["run", "--", "true"])?.errors().is_empty(), "a plain run speaks");
    ensure!(home.listed()?.len() == 2, "a run without --keep was kept");
    // One that can't be made is not kept.
    home.refuses(&["run", "--keep", "-v", "/no/such:/data", "--", "true"], &["/no/such"])?;
    ensure!(home.listed()?.len() == 2, "a run that failed was kept");
    Ok(())
}
