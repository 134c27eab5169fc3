#!/usr/bin/env python3
"""What living sandboxes and pools cost where a whole process does not show it. See docs/benchmarking.md.

    scripts/benchmark-live.py [SECTION...]     (default: all of exec acquire thousand killed)

Prints a summary and writes benchmark-results/live-DATE.json, or into the folder $RESULTS, with every
sample. All that it starts lies in a temporary folder, and goes with it.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent


def cargo(*words, **settings):
    return subprocess.run(["cargo", *words], cwd=TOP, check=True, **settings)


def facts():
    said = subprocess.run([sys.executable, TOP / "scripts/machine-facts.py"], cwd=TOP,
                          capture_output=True, text=True, check=True)
    return json.loads(said.stdout)


class Home:
    """A user's folders, and agentkernel in them."""

    def __init__(self, folder, programs):
        self.folder, self.program = folder, str(folder / "bin/agentkernel")
        for name in ("state", "run", "work", "bin"):
            (folder / name).mkdir(mode=0o700, parents=True)
        # Copied, as an installation does: the kernel starts a program faster from a file that was
        # written in order than from one that the linker has written here and there.
        for name in ("agentkernel", "agentkerneld"):
            shutil.copy(programs / name, folder / "bin")
        self.variables = {"PATH": os.environ["PATH"], "HOME": str(folder),
                          "XDG_STATE_HOME": str(folder / "state"),
                          "XDG_RUNTIME_DIR": str(folder / "run")}

    def call(self, *words):
        return subprocess.run([self.program, *words], env=self.variables, cwd=self.folder / "work",
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def must(self, *words):
        done = self.call(*words)
        if done.returncode:
            sys.exit(f"agentkernel {' '.join(words)}: {done.stderr}")
        return done.stdout


def exec_(_home):
    """A command in a living sandbox through the library, in turn with fork, exec and wait."""
    said = cargo("bench", "--quiet", "--bench", "exec", "--", "1000", capture_output=True, text=True)
    print("  " + said.stderr.strip().replace("\n", "\n  "))
    return json.loads(said.stdout.splitlines()[-1])


def acquire(home):
    """A ready lease in process, with one thread and with eight."""
    out = home.folder / "acquire.json"
    cargo("bench", "--quiet", "-p", "agentkernel-pool", "--bench", "acquire",
          env={**os.environ, "AGENTKERNEL_BENCH_JSON": str(out)}, capture_output=True)
    found = json.loads(out.read_text())
    for case in found["cases"]:
        net = case["net_ns"]
        print(f"  {case['name']}, threads: {case['threads']}, p50 {net['p50']} ns, "
              f"p99 {net['p99']} ns, most {net['most']} ns")
    return found


def memory_available():
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) * 1024


def proportional(mark):
    """The processes with this mark in their command line, and what they use of memory together."""
    count, total = 0, 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes():
                rollup = (process / "smaps_rollup").read_text()
                total += 1024 * int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])
                count += 1
        except (OSError, TypeError):
            pass
    return count, total


def thousand(home, count=1000, at_once=100):
    """A thousand sandboxes alive at once, made a hundred at a time, all answering."""
    names = [f"one-of-many-{number}" for number in range(count)]
    before = memory_available()
    with concurrent.futures.ThreadPoolExecutor(at_once) as makers:
        start = time.monotonic()
        list(makers.map(lambda name: home.must("create", "--start", name), names))
        made = time.monotonic() - start
        used = before - memory_available()
        processes, pss = proportional("create\0--start\0one-of-many-")
        start = time.monotonic()
        said = list(makers.map(lambda name: home.must("exec", name, "--", "echo", "hello"), names))
        answered = time.monotonic() - start
        running = json.loads(home.must("ps", "--json"))["sandboxes"]
        start = time.monotonic()
        list(makers.map(lambda name: home.must("rm", "-f", name), names))
        removed = time.monotonic() - start
    good = said.count("hello\n")
    print(f"  {good} of {count} answered, {len(running)} in ps; made in {made:.2f} s, "
          f"asked in {answered:.2f} s, removed in {removed:.2f} s")
    print(f"  each: {pss / count / 1024:.0f} KiB proportional set size in {processes / count:.1f} "
          f"processes, {used / count / 1024:.0f} KiB of the machine's available memory")
    if good != count or len(running) != count:
        sys.exit("not all of them answered")
    return {"sandboxes": count, "at_once": at_once, "answered": good, "made_s": made,
            "asked_s": answered, "removed_s": removed, "pss_bytes_each": pss / count,
            "available_memory_bytes_each": used / count, "processes_each": processes / count}


def killed(_home):
    """The daemon, killed at 200 random moments under load."""
    cargo("build", "--quiet")
    said = cargo("test", "--quiet", "-p", "agentkernel-daemon", "--test", "daemon", "killed", "--",
                 "--nocapture", env={**os.environ, "AGENTKERNEL_KILL_ROUNDS": "200"},
                 capture_output=True, text=True)
    line = next(line for line in said.stdout.splitlines() if "rounds" in line)
    print("  " + line)
    return {"said": line}


SECTIONS = {"exec": exec_, "acquire": acquire, "thousand": thousand,
            "killed": killed}


def main():
    wanted = sys.argv[1:] or list(SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        sys.exit(f"unknown section {unknown[0]}")
    cargo("build", "--release", "--quiet")
    cargo("build", "--release", "--quiet", "-p", "agentkernel-daemon")
    programs = next(TOP.glob("target/*-linux-*/release"))
    found = {"machine": facts()}
    for name in wanted:
        print(f"{name}: {SECTIONS[name].__doc__}")
        with tempfile.TemporaryDirectory() as folder:
            found[name] = SECTIONS[name](Home(pathlib.Path(folder), programs))
    found["machine"]["load_after"] = os.getloadavg()
    results = pathlib.Path(os.environ.get("RESULTS", TOP / "benchmark-results"))
    results.mkdir(exist_ok=True)
    date = found["machine"]["date"].replace(":", "").replace("+0000", "Z")
    path = results / f"live-{date}.json"
    path.write_text(json.dumps(found) + "\n")
    print(path)


main()
