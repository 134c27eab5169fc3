//! Snapshots and forks.

use std::fs;
use std::os::unix::fs::MetadataExt;

use agentkernel_core::Capability;

use super::{Home, copied};
use crate::host::unique_sleep;
use crate::{Behaviour, NO_FLAGS, Route, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    copied(
        "snapshot-and-back",
        "a sandbox made from a snapshot has the files of that moment, as often as one likes",
        snapshot_and_back,
    )
    .needing(WITH_A_PROJECT),
    copied(
        "snapshot-of-its-own",
        "a snapshot of a sandbox that runs or does not has all that it has written by then",
        snapshot_of_its_own,
    ),
    copied(
        "snapshot-list",
        "snapshots are listed and removed by name, and a name is given once",
        snapshot_list,
    ),
    Behaviour::new(
        "mounts-outlive-a-stop",
        "a rw folder is there again after a stop and in a fork, and what is made in it is the caller's",
        &[Capability::Live, Capability::Snapshots, Capability::MountReadWrite],
        mounts_outlive_a_stop,
    )
    .only(Route::Live, "it is about sandboxes that live on"),
    copied(
        "fork-goes-its-own-way",
        "forks have their sandbox's files and then change them apart from it and each other",
        fork_goes_its_own_way,
    )
    .needing(WITH_A_PROJECT),
    copied(
        "fork-of-a-running-one",
        "a running sandbox is forked without a halt of its commands",
        fork_of_a_running_one,
    ),
];

const WITH_A_PROJECT: &[Capability] =
    &[Capability::Live, Capability::Snapshots, Capability::MountCopyOnWrite];

fn snapshot_of_its_own(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    // Not all of it is on a disk by then, if it has one of its own.
    let write = "cd; echo first > file; mkdir folder; head -c 3000000 /dev/zero | tr '\\0' x > folder/large";
    home.shell(&name, write)?.exits(0)?.complains("")?;
    home.does(&["snapshot", "create", &name, "running"])?;
    // It goes on.
    home.shell(&name, "echo second > ~/file; rm -r ~/folder")?.exits(0)?;
    home.does(&["stop", &name])?;
    home.does(&["snapshot", "create", &name, "stopped"])?;
    home.does(&["rm", &name])?;
    let look = "cat ~/file; ! test -e ~/folder || cksum < ~/folder/large";
    for (moment, expected) in [("running", "first\n4215545058 3000000\n"), ("stopped", "second\n")]
    {
        let copy = home.does(&["create", "--start", "--from", moment])?;
        let copy = copy.trim_end();
        home.shell(copy, look)?.exits(0)?.prints(expected)?.complains("")?;
        home.shell(copy, "echo mine > ~/file")?.exits(0)?;
    }
    let again = home.does(&["create", "--start", "--from", "stopped"])?;
    home.shell(again.trim_end(), look)?.exits(0)?.prints("second\n")?;
    Ok(())
}

fn snapshot_and_back(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (project, flag) = home.project()?;
    let name = home.started(&[flag.as_str(), "-e", "FROM=spec"])?;
    home.shell(&name, "echo first > ~/file; echo first > changed; rm deleted")?.exits(0)?;
    home.does(&["snapshot", "create", &name, "moment"])?;
    home.shell(&name, "echo second > ~/file; echo second > changed; echo x > added")?.exits(0)?;
    home.does(&["rm", "-f", &name])?;
    for _ in 0..2 {
        // It is made for the same backend.
        let copy = home.does(&["create", "--start", "--from", "moment"])?;
        let copy = copy.trim_end();
        let look = "pwd; cat ~/file changed kept; ls; echo $FROM; echo third > changed";
        let expected =
            format!("{}\nfirst\nfirst\nkept\nchanged\nfolder\nkept\nspec\n", project.display());
        home.shell(copy, look)?.exits(0)?.prints(expected)?.complains("")?;
    }
    home.refuses(&["create", "--from", "nothing"], &["nothing"])
}

fn snapshot_list(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.created(&NO_FLAGS)?;
    home.does(&["snapshot", "create", &name, "one"])?;
    home.does(&["snapshot", "create", &name, "two"])?;
    home.refuses(&["snapshot", "create", &name, "one"], &["one"])?;
    home.refuses(&["snapshot", "create", &name, "../one"], &[])?;
    let made_up = home.does(&["snapshot", "create", &name])?;
    let list = home.does(&["snapshot", "ls"])?;
    for expected in ["one", "two", made_up.trim_end()] {
        ensure!(list.contains(expected), "no {expected} in {list}");
    }
    let json = home.json(&["snapshot", "ls", "--json"])?;
    ensure!(json["version"] == 1, "no version in {json}");
    ensure!(json["snapshots"].as_array().map(Vec::len) == Some(3), "expected three: {json}");
    home.does(&["snapshot", "rm", "one", "two", made_up.trim_end()])?;
    home.refuses(&["snapshot", "rm", "one"], &["one"])?;
    let left = home.names_in("state/agentkernel/snapshots");
    ensure!(left.is_empty(), "removed snapshots have left {left:?}");
    Ok(())
}

fn mounts_outlive_a_stop(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let folder = home.scratch.folder("folder")?;
    let name = home.started(&["-v", &format!("{}:/data:rw", folder.display())])?;
    home.shell(&name, "echo first > ~/file; touch /data/first")?.exits(0)?.complains("")?;
    home.does(&["stop", &name])?;
    home.does(&["start", &name])?;
    home.shell(&name, "cat ~/file; touch /data/second")?.exits(0)?.prints("first\n")?;
    let fork = home.does(&["fork", &name])?;
    let fork = fork.trim_end();
    home.run(&["start", fork])?.exits(0)?;
    home.shell(fork, "cat ~/file; touch /data/third")?.exits(0)?.prints("first\n")?;
    if subject.has(Capability::User) {
        // Whether it may or not.
        home.run(&["exec", "-u", "0", &name, "--", "touch", "/data/by-root"])?;
    }
    home.does(&["rm", "-f", &name, fork])?;
    let (owner, mut made) = ((subject.caller.uid(), subject.caller.gid()), 0);
    for entry in fs::read_dir(&folder)? {
        let (entry, data) = entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?)))?;
        let found = (data.uid(), data.gid());
        ensure!(found == owner, "{entry:?} belongs to {found:?}, the caller is {owner:?}");
        made += 1;
    }
    ensure!(made >= 3, "only {made} files were made");
    Ok(())
}

fn fork_goes_its_own_way(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (_, flag) = home.project()?;
    let name = home.started(&[&flag])?;
    home.shell(&name, "echo original > ~/file; echo original > changed; rm deleted")?.exits(0)?;
    home.does(&["stop", &name])?;
    let forks = home.does(&["fork", &name, "-n", "3", "--name", "fork"])?;
    let forks: Vec<&str> = forks.lines().collect();
    let named = forks.iter().all(|fork| fork.starts_with("fork"));
    ensure!(forks.len() == 3 && named, "expected three names of forks: {forks:?}");
    let all: Vec<&str> = forks.iter().copied().chain([name.as_str()]).collect();
    for one in &all {
        // A fork may be running already.
        home.run(&["start", one])?.exits(0)?;
        let change = format!("cat ~/file changed; ls; echo {one} > ~/file; echo {one} > changed");
        let expected = "original\noriginal\nchanged\nfolder\nkept\n";
        home.shell(one, &change)?.exits(0)?.prints(expected)?.complains("")?;
    }
    for one in &all {
        let expected = format!("{one}\n{one}\n");
        home.shell(one, "cat ~/file changed")?.exits(0)?.prints(expected)?;
    }
    // The one it was made from can go.
    home.does(&["rm", "-f", &name])?;
    for fork in &forks {
        home.shell(fork, "cat kept")?.exits(0)?.prints("kept\n")?;
    }
    for bad in ["0", "-1", "many"] {
        home.refuses(&["fork", forks.first().unwrap_or(&""), "-n", bad], &[])?;
    }
    Ok(())
}

fn fork_of_a_running_one(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
    home.shell(&name, "echo whole > ~/file")?.exits(0)?;
    if !subject.is_far() {
        home.background(&name, &format!("exec sleep {mark}"))?;
    }
    let running = home.begun(&name, "echo begun; read go; echo end")?;
    let fork = home.does(&["fork", &name])?;
    let fork = fork.trim_end();
    running.finish()?.exits(0)?.prints("begun\nend\n")?;
    home.is(&name, "running")?;
    home.run(&["start", fork])?.exits(0)?;
    home.shell(fork, "cat ~/file")?.exits(0)?.prints("whole\n")?;
    let seen = home.shell(fork, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")?;
    ensure!(!seen.text().contains(&mark), "a fork sees the original's processes: {seen}");
    Ok(())
}
