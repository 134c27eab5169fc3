#!/usr/bin/env python3
"""Runs the README's examples and compares what they print with what the README says.

    scripts/check-readme.py AGENTKERNEL

An example is a block fenced as `console`: a line after `$ ` is run, by one shell for the whole
README, and the lines below it are all that it may print; `...` stands for any text in a line. A
second word after `console` says where a block holds:
  limits    where every limit can be enforced, as root can
  nolimits  where the limit on memory can't be
  rootfs    where there is a static busybox to make a root file system of
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```console ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "--- end of an example ---"


def places(agentkernel):
    """The words of blocks that hold here, and why the others don't."""
    doctor = subprocess.run([agentkernel, "doctor", "--json"], capture_output=True, text=True)
    backend = json.loads(doctor.stdout)["backends"][0]
    weak = [limit for limit in backend["limits"] if not limit["exact"]]
    here = {"", "nolimits" if any(limit["name"] == "memory" for limit in weak) else "limits"}
    busybox = shutil.which("busybox")
    if busybox and b"INTERP" not in subprocess.run(
        ["readelf", "-lW", busybox], capture_output=True
    ).stdout:
        here.add("rootfs")
    return here, busybox


def examples(here):
    """The commands of the blocks that hold here, each with the lines that it is to print."""
    found = []
    for word, text in BLOCK.findall(README.read_text()):
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


def main():
    agentkernel = pathlib.Path(sys.argv[1]).resolve()
    here, busybox = places(agentkernel)
    todo = examples(here)
    with tempfile.TemporaryDirectory() as home:
        if busybox:
            # The examples make a folder `site` and work in it from then on.
            root = pathlib.Path(home, "site", "rootfs", "bin")
            root.mkdir(parents=True)
            shutil.copy(busybox, root)
        script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in todo)
        script = script.replace("mkdir site &&", "mkdir -p site &&")
        environment = {
            "PATH": f"{agentkernel.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": home,
            "LC_ALL": "C",
        }
        ran = subprocess.run(
            ["bash"], input=script, cwd=home, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )
    outputs = ran.stdout.split(f"{MARK}\n")
    failed = 0
    for (command, expected), seen in zip(todo, outputs):
        if not matches(expected, seen.rstrip("\n")):
            failed += 1
            print(f"FAILED $ {command}\nexpected:\n" + "\n".join(expected) + f"\nseen:\n{seen}")
    if len(outputs) != len(todo) + 1:
        failed += 1
        print(f"FAILED: {len(todo)} examples were begun and {len(outputs) - 1} ended")
    print(f"{len(todo) - failed} examples hold, {failed} don't")
    return 1 if failed else 0


sys.exit(main())
