//! Names and states, and the verbs that change them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use agentkernel_core::{Capability, LimitKind};
use serde_json::json;

use super::{Home, SOON, life};
use crate::host::{Orphanage, Process, Remains, unique_sleep};
use crate::running::patiently;
use crate::{Behaviour, NO_FLAGS, NotPassed, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    life(
        "a-name-is-taken-once",
        "of twenty sandboxes made under one name at once, one is, and nineteen are refused",
        a_name_is_taken_once,
    ),
    life(
        "names-that-are-none",
        "names that are paths, too long or made of look-alikes are refused by every verb",
        names_that_are_none,
    ),
    life(
        "names-made-up",
        "a sandbox without a name gets one that it can be used by",
        names_made_up,
    ),
    life(
        "a-name-or-an-id",
        "a sandbox goes by its name, its id and a part of the id from its start on",
        a_name_or_an_id,
    ),
    life(
        "states-in-order",
        "created, running, paused and stopped are what ps says, and only the live ones without -a",
        states_in_order,
    ),
    life(
        "verbs-out-of-order",
        "what a sandbox's state does not allow is refused, and changes nothing",
        verbs_out_of_order,
    ),
    life("unknown-sandboxes", "every verb refuses a sandbox that is not there", unknown_sandboxes),
    life(
        "several-sandboxes-at-once",
        "start, stop and rm take several names, and go on after one that they can't do it to",
        several_sandboxes_at_once,
    ),
    life(
        "files-outlive-a-stop",
        "a sandbox that is stopped and started has its files, and none of its processes",
        files_outlive_a_stop,
    ),
    life(
        "stop-asks-first",
        "stop sends SIGTERM to everything inside, and waits for it",
        stop_asks_first,
    ),
    life(
        "stop-kills-what-does-not-heed",
        "stop kills what ignores SIGTERM, after the time that --time says",
        stop_kills_what_does_not_heed,
    ),
    life(
        "pause-stops-all-progress",
        "nothing in a paused sandbox gets on, and all of it does when it is unpaused",
        pause_stops_all_progress,
    ),
    life(
        "a-paused-sandbox-can-be-ended",
        "a paused sandbox can be stopped and removed",
        a_paused_sandbox_can_be_ended,
    ),
    life("rename", "a renamed sandbox runs on, and its old name is free again", rename),
    life(
        "labels-and-filters",
        "labels are in what ps says, and ps shows only the ones that a filter matches",
        labels_and_filters,
    ),
    life(
        "wait-for-a-stop",
        "wait returns once the sandbox has stopped, however it did, and says nothing",
        wait_for_a_stop,
    ),
    life(
        "a-disk-limit-is-refused",
        "a limit on what is written holds on a disk of the sandbox's own, and is refused on the host's",
        a_disk_limit_is_refused,
    ),
    life(
        "inspect-tells-all",
        "inspect prints one object with the name, id, state, labels and spec",
        inspect_tells_all,
    ),
    life(
        "prune",
        "prune -f removes what is stopped or left over, keeps what runs, and asks without -f",
        prune,
    ),
    Behaviour {
        needs: &[Capability::Live, Capability::MountCopyOnWrite],
        ..life(
            "rm-leaves-nothing",
            "rm -f of a running sandbox leaves no process, control group, socket or file",
            rm_leaves_nothing,
        )
        .alone()
    },
];

fn a_name_is_taken_once(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let all: Result<Vec<_>, _> = (0..20).map(|_| home.start(&["create", "the-one"])).collect();
    let mut winners = 0;
    for running in all? {
        let got = running.finish()?;
        if got.status.success() {
            got.prints("the-one\n")?.complains("")?;
            winners += 1;
        } else {
            super::bad_input::refused(&got, &["there is already a sandbox named", "the-one"])?;
        }
    }
    ensure!(winners == 1, "{winners} of twenty got the name");
    let all = home.listed()?;
    ensure!(all.len() == 1, "expected one sandbox: {all:?}");
    Ok(())
}

fn names_that_are_none(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    home.does(&["create", "good"])?;
    let (long, longer) = ("x".repeat(65), "x".repeat(10_000));
    // A word of a command line can't hold a NUL. The look-alikes: a full-width letter, a Cyrillic
    // one, a dot that is none, a combining accent, a mark that turns the direction of text.
    let texts: [&[u8]; 19] = [
        b"",
        b"/",
        b".",
        b"..",
        b"../good",
        b"a/b",
        b"/etc/passwd",
        b".hidden",
        b"_a",
        b"a b",
        b"a\nb",
        b"a:b",
        b"\xff",
        "\u{ff47}ood".as_bytes(),
        "g\u{43e}od".as_bytes(),
        "a\u{2024}b".as_bytes(),
        "good\u{301}".as_bytes(),
        "\u{202e}good".as_bytes(),
        b"g\x1b[31m",
    ];
    let names = texts.iter().map(|text| OsStr::from_bytes(text));
    for name in names.chain([OsStr::new(&long), OsStr::new(&longer)]) {
        for verb in ["create", "start", "rm"] {
            home.refuses(&[OsStr::new(verb), name], &[])?;
        }
        home.refuses(&["rename".as_ref(), "good".as_ref(), name], &[])?;
        let exec = ["exec".as_ref(), name, "--".as_ref(), "true".as_ref()];
        home.refuses(&exec, &[])?;
    }
    let names: Vec<_> = home.listed()?.into_iter().map(|sandbox| sandbox["name"].clone()).collect();
    ensure!(names == ["good"], "other sandboxes were made: {names:?}");
    for good in ["a", "0", "A.b_c-1", &"x".repeat(64)] {
        let made = home.does(&["create", good])?;
        ensure!(made.trim_end() == good, "the name {good} became {made:?}");
    }
    Ok(())
}

fn names_made_up(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let [first, second] = [home.does(&["create"])?, home.does(&["create"])?];
    ensure!(first != second, "two sandboxes are named {first:?}");
    for name in [first.trim_end(), second.trim_end()] {
        home.does(&["start", name])?;
        home.shell(name, "echo there")?.exits(0)?.prints("there\n")?;
    }
    Ok(())
}

fn a_name_or_an_id(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let listed = home.listed_as(&name)?;
    let id = listed["id"].as_str().unwrap_or_default();
    ensure!(id.len() >= 12, "that is no id: {listed}");
    for word in [&name, id, id.get(..6).unwrap_or_default(), id.get(..4).unwrap_or_default()] {
        home.shell(word, "echo there")?.exits(0)?.prints("there\n")?;
    }
    let quiet = home.does(&["ps", "-q"])?;
    ensure!(quiet.trim_end() == id || quiet.trim_end() == name, "ps -q says {quiet:?}");
    // Three digits are too few, and a part that is not at the start is none.
    for word in [id.get(..3), id.get(4..10)] {
        home.refuses(&["start", word.unwrap_or_default()], &[])?;
    }
    Ok(())
}

fn states_in_order(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.created(&NO_FLAGS)?;
    let shown = || -> Result<bool, NotPassed> { Ok(home.does(&["ps"])?.contains(&name)) };
    for (verb, state, live) in [
        (None, "created", false),
        (Some("start"), "running", true),
        (Some("pause"), "paused", true),
        (Some("unpause"), "running", true),
        (Some("stop"), "stopped", false),
        (Some("start"), "running", true),
    ] {
        if let Some(verb) = verb {
            let said = home.does(&[verb, &name])?;
            ensure!(said.trim_end() == name, "{verb} printed {said:?}");
        }
        home.is(&name, state)?;
        ensure!(shown()? == live, "{state}, and ps without -a shows it: {}", !live);
        let all = home.does(&["ps", "-a"])?;
        ensure!(all.contains(&name) && all.contains(state), "expected it as {state}: {all}");
        let pid = home.listed_as(&name)?["pid"].as_u64();
        ensure!(pid.is_some() == live, "{state}, and its process is {pid:?}");
    }
    home.does(&["rm", "-f", &name])?;
    ensure!(home.listed()?.is_empty(), "it was removed and is still there");
    let empty = home.does(&["ps", "-a", "-q"])?;
    ensure!(empty.is_empty(), "there are no sandboxes, and ps -q says {empty:?}");
    Ok(())
}

fn verbs_out_of_order(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.created(&NO_FLAGS)?;
    let refused = |verbs: &[&str], state: &str| {
        for verb in verbs {
            home.refuses(&[verb, name.as_str()], &[&name])?;
            home.is(&name, state)?;
        }
        Ok::<_, NotPassed>(())
    };
    refused(&["pause", "unpause", "kill"], "created")?;
    home.does(&["start", &name])?;
    refused(&["unpause", "rm"], "running")?;
    home.refuses(&["create", &name], &[&name])?;
    home.does(&["pause", &name])?;
    refused(&["pause", "rm"], "paused")?;
    home.does(&["unpause", &name])?;
    home.does(&["stop", &name])?;
    refused(&["pause", "unpause", "kill"], "stopped")?;
    home.does(&["rm", &name])?;
    Ok(())
}

fn unknown_sandboxes(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    for made in [false, true] {
        if made {
            home.does(&["create", "another"])?;
        }
        for verb in [
            "start", "stop", "rm", "pause", "unpause", "wait", "kill", "logs", "attach", "inspect",
            "ps", "diff", "apply", "export", "fork",
        ] {
            home.refuses(&[verb, "nobody"], &["nobody"])?;
        }
        home.refuses(&["rm", "-f", "nobody"], &["nobody"])?;
        home.refuses(&["rename", "nobody", "somebody"], &["nobody"])?;
        home.refuses(&["exec", "nobody", "--", "true"], &["nobody"])?;
        home.refuses(&["cp", "nobody:/etc/passwd", "."], &["nobody"])?;
        home.refuses(&["snapshot", "create", "nobody"], &["nobody"])?;
    }
    Ok(())
}

fn several_sandboxes_at_once(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let names = [home.created(&NO_FLAGS)?, home.created(&NO_FLAGS)?];
    let both = format!("{}\n{}\n", names[0], names[1]);
    for verb in ["start", "stop", "rm"] {
        let got = home.run(&[verb, &names[0], "nobody", &names[1]])?;
        got.exits(125)?.prints(&both)?.mentions("nobody")?;
    }
    ensure!(home.listed()?.is_empty(), "some were not removed");
    Ok(())
}

fn files_outlive_a_stop(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
    home.background(&name, &format!("exec sleep {mark}"))?;
    let write = "for i in ~ /tmp /run /dev/shm; do echo kept > $i/file; done; ln -s file ~/link; \
                 mkdir ~/folder; chmod 750 ~/folder; rm /etc/hosts 2>/dev/null; true";
    home.shell(&name, write)?.exits(0)?.complains("")?;
    // Whether it has become its sleep yet, or not.
    let sleepers = Process::marked(&mark);
    for _ in 0..2 {
        home.does(&["stop", &name])?;
        let left = Process::sleeping(&mark);
        ensure!(left.is_empty(), "still running after a stop: {left:?}");
        home.does(&["start", &name])?;
        let look = "cat ~/file ~/link /tmp/file; stat -c %a ~/folder; ls -A /run /dev/shm";
        let got = home.shell(&name, look)?;
        got.exits(0)?.prints("kept\nkept\nkept\n750\n/dev/shm:\n\n/run:\n")?.complains("")?;
    }
    ensure!(!sleepers.is_empty(), "the background command never ran, so nothing is shown");
    Ok(())
}

fn stop_asks_first(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let script = "trap 'sleep 0.2; echo asked > ~/file; exit 3' TERM; echo begun; \
                  while :; do sleep 0.05; done";
    let running = home.begun(&name, script)?;
    let number = home.background(&name, &script.replace("file", "other"))?;
    home.does(&["logs", &name, &number])?;
    home.does(&["stop", &name])?;
    running.finish()?.exits(3)?.takes_less_than(SOON)?;
    home.does(&["start", &name])?;
    home.shell(&name, "cat ~/file")?.exits(0)?.prints("asked\n")?;
    Ok(())
}

fn stop_kills_what_does_not_heed(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
    let script = format!("trap '' TERM; echo begun; exec sleep {mark}");
    let running = home.begun(&name, &script)?;
    let time = patiently(Duration::from_millis(400));
    let stopped = home.run(&["stop", "--time", &format!("{}ms", time.as_millis()), &name])?;
    stopped.exits(0)?.complains("")?.takes_less_than(SOON)?;
    ensure!(stopped.took >= time, "it was killed before its time: {stopped}");
    let left = Process::sleeping(&mark);
    ensure!(left.is_empty(), "still running after a stop: {left:?}");
    let got = running.finish()?;
    ensure!([Some(137), Some(125)].contains(&got.status.code()), "it was killed: {got}");
    home.is(&name, "stopped")
}

/// Appends to a file as fast as it may.
const BUSY: &str = "while :; do echo tick; sleep 0.01; done";

fn pause_stops_all_progress(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let mut foreground = home.begun(&name, BUSY)?;
    let number = home.background(&name, BUSY)?;
    let ticks = || -> Result<usize, NotPassed> {
        Ok(home.does(&["logs", &name, &number])?.lines().count())
    };
    home.does(&["pause", &name])?;
    let before = ticks()?;
    ensure!(!foreground.ends_within(Duration::from_millis(300))?, "a pause ended a command");
    let after = ticks()?;
    ensure!(before == after, "a paused sandbox went from {before} ticks to {after}");
    home.does(&["unpause", &name])?;
    let mut follower = home.start(&["logs", "-f", &name, &number])?;
    for _ in 0..after + 5 {
        follower.line()?;
    }
    foreground.line()?;
    home.does(&["rm", "-f", &name])?;
    Ok(())
}

fn a_paused_sandbox_can_be_ended(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    for end in [&["stop"][..], &["rm", "-f"]] {
        let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
        let running = home.begun(&name, &format!("echo begun; exec sleep {mark}"))?;
        home.does(&["pause", &name])?;
        home.run(&[end, &[&name]].concat())?.exits(0)?.takes_less_than(SOON)?;
        running.finish()?;
        let left = Process::sleeping(&mark);
        ensure!(left.is_empty(), "still running after {end:?}: {left:?}");
    }
    Ok(())
}

fn rename(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, other) = (home.started(&NO_FLAGS)?, home.created(&NO_FLAGS)?);
    let running = home.begun(&name, "echo begun; read go; echo end")?;
    home.does(&["rename", &name, "renamed"])?;
    home.shell("renamed", "echo there")?.exits(0)?.prints("there\n")?;
    running.finish()?.exits(0)?.prints("begun\nend\n")?;
    home.refuses(&["exec", &name, "--", "true"], &[&name])?;
    home.refuses(&["rename", "renamed", &other], &[&other])?;
    home.does(&["rename", &other, &name])?;
    home.is(&name, "created")?;
    home.is("renamed", "running")
}

fn labels_and_filters(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let red = home.created(&["--label", "colour=red", "--label", "size=a=b"])?;
    let blue = home.created(&["--label", "colour=blue"])?;
    let plain = home.created(&NO_FLAGS)?;
    let labels = home.listed_as(&red)?["labels"].clone();
    ensure!(labels == json!({"colour": "red", "size": "a=b"}), "the labels are {labels}");
    let none = home.listed_as(&plain)?["labels"].clone();
    ensure!(none == json!({}), "the labels of none are {none}");
    for (filter, expected) in [
        ("label=colour=red", vec![&red]),
        ("label=colour=blue", vec![&blue]),
        ("label=size=a=b", vec![&red]),
        ("label=colour=green", vec![]),
    ] {
        let found = home.json(&["ps", "-a", "--json", "--filter", filter])?;
        let found = found["sandboxes"].as_array().cloned().unwrap_or_default();
        let found: Vec<_> = found.iter().filter_map(|sandbox| sandbox["name"].as_str()).collect();
        ensure!(found == expected, "{filter} finds {found:?}, not {expected:?}");
    }
    for bad in [&["create", "--label", "=x"][..], &["ps", "--filter", "colour=red"]] {
        home.refuses(bad, &[])?;
    }
    Ok(())
}

fn wait_for_a_stop(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let names = [home.started(&NO_FLAGS)?, home.started(&NO_FLAGS)?];
    let waiting = home.start(&["wait", &names[0], &names[1]])?;
    home.does(&["stop", &names[0]])?;
    let early = waiting.ends_within(Duration::from_millis(300))?;
    ensure!(!early, "it waited for one of two");
    home.does(&["rm", "-f", &names[1]])?;
    waiting.finish()?.exits(0)?.prints("")?.complains("")?.takes_less_than(SOON)?;
    // What has stopped before is not waited for.
    home.run(&["wait", &names[0]])?.exits(0)?.prints("")?.takes_less_than(SOON)?;
    Ok(())
}

fn a_disk_limit_is_refused(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    if subject.has_own_kernel() {
        let name = home.created(&["--disk", "64m"])?;
        home.does(&["start", &name])?;
        let fill = |size| format!("head -c {size} /dev/zero > /tmp/file && echo written");
        home.shell(&name, &fill("16m"))?.exits(0)?.prints("written\n")?;
        let got = home.shell(&name, &fill("128m"))?;
        ensure!(got.status.code() != Some(0), "128 MiB fit into a disk of 64: {got}");
        return Ok(());
    }
    if let Err(why) = subject.exact_limit(LimitKind::Disk)
        && !subject.has(Capability::ImageHost)
        && subject.has(Capability::LimitDisk)
    {
        // Only the engine knows, which is asked when it has to make something.
        home.does(&["create", "--disk", "16m", "small"])?;
        home.refuses(&["start", "small"], &["disk"])?;
        home.does(&["rm", "small"])?;
        skip!("the limit can't be had here at all: {why}");
    }
    home.refuses(&["create", "--disk", "16m", "small"], &["disk"])?;
    ensure!(home.listed()?.is_empty(), "what can't be had was made all the same");
    Ok(())
}

fn inspect_tells_all(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.created(&["--label", "a=b", "--memory", "256m", "--ttl", "1h"])?;
    let record = home.json(&["inspect", &name])?;
    let listed = home.listed_as(&name)?;
    for key in ["name", "id", "backend", "state", "labels", "created"] {
        ensure!(record[key] == listed[key], "inspect and ps differ in {key}: {record} {listed}");
    }
    ensure!(record["spec"].is_object(), "there is no spec in it: {record}");
    ensure!(record.to_string().contains("268435456"), "the memory limit is not in it: {record}");
    Ok(())
}

fn prune(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (running, stopped) = (home.started(&NO_FLAGS)?, home.started(&NO_FLAGS)?);
    home.does(&["stop", &stopped])?;
    // As a sandbox whose record was lost.
    let leftover = home.scratch.folder("state/agentkernel/sandboxes/0123456789ab")?;
    home.scratch.file(leftover.join("file"), "left\n")?;
    // Nobody is there to be asked.
    home.refuses(&["prune"], &["-f"])?;
    home.is(&stopped, "stopped")?;
    home.run(&["prune", "-f"])?.exits(0)?;
    ensure!(home.listed_as(&stopped)?.is_null(), "what is stopped is still there");
    ensure!(!leftover.exists(), "what was left over is still there");
    home.shell(&running, "echo there")?.exits(0)?.prints("there\n")?;
    Ok(())
}

fn rm_leaves_nothing(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (_, project) = home.project()?;
    // The store is there before and stays.
    let first = home.started(&NO_FLAGS)?;
    home.does(&["rm", "-f", &first])?;
    let orphanage = Orphanage::open()?;
    let before = Remains::look(&orphanage, &home.scratch);
    let (name, mark) = (home.started(&[&project])?, unique_sleep());
    home.background(&name, &format!("trap '' TERM; setsid sleep {mark} & sleep {mark}"))?;
    let script = format!("echo more >> kept; mkdir ~/folder; echo begun; exec sleep {mark}");
    let running = home.begun(&name, &script)?;
    let during = Remains::look(&orphanage, &home.scratch).beyond(&before);
    ensure!(!during.is_empty(), "a running sandbox can't be seen, so nothing is shown");
    home.run(&["rm", "-f", &name])?.exits(0)?.takes_less_than(SOON)?;
    running.finish()?;
    ensure!(orphanage.empties_within(SOON)?, "still running: {:?}", orphanage.inmates());
    let patience = subject.patience_for_engine();
    let left = Remains::left_within(patience, &orphanage, &home.scratch, &before)?;
    ensure!(left.is_empty(), "left behind by rm -f: {}", left.join("; "));
    Ok(())
}
