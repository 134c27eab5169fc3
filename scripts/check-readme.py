#!/usr/bin/env python3
"""Runs the examples of the README and of docs/ and compares what they print with what is written there.

    scripts/check-readme.py AGENTKERNEL

An example is a block fenced as `console`: a line after `$ ` is run, by one shell for a whole page,
and the lines below it are all that it may print; `...` stands for any text in a line. A second
word after `console` says where a block holds:
  limits    where every limit can be enforced, as root can
  nolimits  where the limit on memory can't be
  rootfs    where there is a static busybox to make a root file system of

The shell has a home, state and sockets of its own. Whatever it leaves running, such as a daemon or a
sandbox, is ended at the end, and counts as a failure.
"""

import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HOME = pathlib.Path(__file__).resolve().parent.parent
PAGES = [HOME / "README.md", *sorted(HOME.glob("docs/*.md"))]
BLOCK = re.compile(r"^```console ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "--- end of an example ---"
SECONDS_FOR_A_PAGE = 120
PR_SET_CHILD_SUBREAPER = 36


def places(agentkernel, environment):
    """The words of blocks that hold here, and a static busybox if there is one."""
    doctor = subprocess.run(
        [agentkernel, "doctor", "--json"], capture_output=True, text=True, env=environment
    )
    backend = json.loads(doctor.stdout)["backends"][0]
    weak = [limit for limit in backend["limits"] if not limit["exact"]]
    here = {"", "nolimits" if any(limit["name"] == "memory" for limit in weak) else "limits"}
    busybox = shutil.which("busybox")
    if busybox and b"INTERP" not in subprocess.run(
        ["readelf", "-lW", busybox], capture_output=True
    ).stdout:
        here.add("rootfs")
    return here, busybox


def examples(page, here):
    """The commands of the blocks that hold here, each with the lines that it is to print."""
    found = []
    for word, text in BLOCK.findall(page.read_text()):
        if word not in here:
            print(f"passed over: a block for {word!r} machines")
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def matches(expected, seen):
    pattern = "\n".join(expected)
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("...")), seen)


def run(script, folder, environment):
    """What the shell prints, through one pipe, so that the order is kept."""
    try:
        printed = subprocess.run(
            ["bash"], input=script.encode(), cwd=folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS_FOR_A_PAGE,
        ).stdout
    except subprocess.TimeoutExpired as expired:
        print(f"FAILED: after {SECONDS_FOR_A_PAGE} seconds somebody could still print")
        printed = expired.stdout or b""
    # A terminal ends lines its own way.
    return printed.decode(errors="replace").replace("\r\n", "\n")


def check(page, todo, folder, environment):
    """Runs a page's examples; returns how many of them don't hold."""
    script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in todo)
    outputs = run(script, folder, environment).split(f"{MARK}\n")
    failed = 0
    for (command, expected), seen in zip(todo, outputs):
        if not matches(expected, seen.rstrip("\n")):
            failed += 1
            print(f"FAILED $ {command}\nexpected:\n" + "\n".join(expected) + f"\nseen:\n{seen}")
    if len(outputs) != len(todo) + 1:
        failed += 1
        print(f"FAILED: {len(todo)} examples were begun and {len(outputs) - 1} ended")
    return failed


def tidy_up(agentkernel, environment):
    """Ends what a page has left alive, and returns what that was."""

    def product(*words):
        try:
            return subprocess.run(
                [agentkernel, *words], env=environment, text=True, timeout=30,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 1, "")

    left = []
    if product("daemon", "stop").returncode == 0:
        left.append("a daemon")
    names = product("ps", "-aq").stdout.split()
    if names:
        left.append(f"{len(names)} sandboxes")
        product("rm", "-f", *names)
    # Processes without a parent come to this one, so whatever is not gone by now is its child.
    until = time.monotonic() + 5
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return left
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    left.append("processes")
    try:
        while True:
            for child in children():
                os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)
    except ChildProcessError:
        return left


def children():
    """The numbers of this process's children."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # What follows the name, which may hold anything, is a state and the parent's number.
            parent = stat.read_text(errors="replace").rpartition(") ")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            yield int(stat.parent.name)


def main():
    agentkernel = pathlib.Path(sys.argv[1]).resolve()
    # Ended by somebody, it tidies up all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    done = failed = 0
    for page in PAGES:
        with tempfile.TemporaryDirectory(prefix="ak-") as scratch:
            environment = {
                "PATH": f"{agentkernel.parent}:/usr/local/bin:/usr/bin:/bin",
                "HOME": f"{scratch}/home",
                "XDG_STATE_HOME": f"{scratch}/state",
                "XDG_RUNTIME_DIR": f"{scratch}/run",
                # Podman would be started for doctor, and leave a process of its own.
                "CONTAINER_HOST": "unix:///nowhere/podman.sock",
                "LC_ALL": "C",
            }
            for name in ("home", "state", "run"):
                pathlib.Path(scratch, name).mkdir(mode=0o700)
            here, busybox = places(agentkernel, environment)
            todo = examples(page, here)
            if not todo:
                continue
            if busybox:
                root = pathlib.Path(scratch, "home", "rootfs", "bin")
                root.mkdir(parents=True)
                shutil.copy(busybox, root)
            try:
                bad = check(page, todo, environment["HOME"], environment)
            finally:
                left = tidy_up(agentkernel, environment)
            if left:
                bad += 1
                print(f"FAILED: it leaves behind {' and '.join(left)}")
            print(f"{page.relative_to(HOME)}: {len(todo)} examples, {bad} failures")
            done, failed = done + len(todo), failed + bad
    print(f"{done} examples were run, {failed} failures")
    return 1 if failed or not done else 0


sys.exit(main())
