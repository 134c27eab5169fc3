#!/usr/bin/env python3
"""What agentkernel adds to Firecracker's own API, and what a ready machine weighs. See docs/benchmarking.md.

    scripts/benchmark-firecracker.py [ROUNDS]     (default: 20)

In turn with agentkernel the same machine is had by the shortest sequence of requests that does it:

    cold      the process starts, is configured, and the guest has said that it listens
    restore   the process starts, loads what was saved, and the guest has answered its first word

Needs what -B firecracker needs, and AGENTKERNEL_IMAGE, an image of the store. AGENTKERNEL_PROGRAMS is the
folder of both programs, or they are built. Prints medians and writes them with every sample into
benchmark-results/firecracker-DATE.json, or into the folder $RESULTS.
"""

import contextlib
import datetime
import http.client
import json
import os
import pathlib
import secrets
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
MEMORY = "128m"
IDLE = 4


class Api(http.client.HTTPConnection):
    """A word with one Firecracker, in its folder."""

    def __init__(self, folder):
        super().__init__("localhost")
        self.path = str(folder / "api")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        while True:
            try:
                return self.sock.connect(self.path)
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.0005)

    def ask(self, method, path, **body):
        self.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.getresponse()
        text = answer.read()
        if answer.status != 204:
            sys.exit(f"{method} {path}: {text.decode()}")


@contextlib.contextmanager
def firecracker(program):
    """One that is ended after the block."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        process = subprocess.Popen([program, "--api-sock", "api", "--level", "Error"], cwd=folder,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            yield folder, Api(folder)
        finally:
            process.kill()
            process.wait()


def milliseconds(since):
    return (time.perf_counter() - since) * 1000


def raw_cold(plan, arguments):
    began = time.perf_counter()
    with firecracker(plan["program"]) as (folder, api):
        with socket.socket(socket.AF_UNIX) as ready:
            ready.bind(str(folder / "vsock_1025"))
            ready.listen()
            api.ask("PUT", "/machine-config", vcpu_count=plan["processors"],
                    mem_size_mib=plan["memory"])
            api.ask("PUT", "/boot-source", kernel_image_path=plan["kernel"],
                    initrd_path=plan["initrd"], boot_args=arguments)
            for number, disk in enumerate(plan["disks"]):
                api.ask("PUT", f"/drives/disk{number}", drive_id=f"disk{number}",
                        path_on_host=disk["path"], is_root_device=False,
                        is_read_only=disk["read_only"])
            api.ask("PUT", "/vsock", guest_cid=3, uds_path="vsock")
            api.ask("PUT", "/entropy")
            api.ask("PUT", "/actions", action_type="InstanceStart")
            ready.accept()
            return milliseconds(began)


def connect(folder):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(folder / "vsock"))
    stream.sendall(b"CONNECT 1024\n")
    while stream.recv(1) != b"\n":
        pass
    return stream


def raw_restore(plan, golden):
    began = time.perf_counter()
    with firecracker(plan["program"]) as (folder, api):
        api.ask("PUT", "/snapshot/load", snapshot_path=str(golden / "state"), resume_vm=True,
                mem_backend={"backend_type": "File", "backend_path": str(golden / "memory")})
        stream = connect(folder)
        now = time.time_ns()
        word = json.dumps({"Begin": {"host_name": "raw", "seed": list(secrets.token_bytes(32)),
                                     "clock": {"secs": now // 10**9, "nanos": now % 10**9}}})
        stream.sendall(struct.pack("<I", len(word)) + word.encode())
        # For the agent's last words: it answers when it has both.
        other = connect(folder)
        size, = struct.unpack("<I", stream.recv(4, socket.MSG_WAITALL))
        reply = stream.recv(size, socket.MSG_WAITALL)
        took = milliseconds(began)
        if not reply.startswith(b'{"Begun"'):
            sys.exit(f"the machine said {reply!r}")
        stream.close(), other.close()
        return took


class Home:
    """A user's folders but for the images', and agentkernel in them."""

    def __init__(self, folder, jail):
        self.folder = folder
        for name in ("state", "run"):
            (folder / name).mkdir(mode=0o700, parents=True)
        inherited = {name: value for name, value in os.environ.items()
                     if name != "AGENTKERNEL_PROGRAMS"}
        self.variables = dict(inherited, XDG_STATE_HOME=str(folder / "state"),
                              XDG_RUNTIME_DIR=str(folder / "run"), AGENTKERNEL_BACKEND="firecracker",
                              **({} if jail else {"FIRECRACKER_JAIL": "none"}))

    def must(self, *words):
        done = subprocess.run([PROGRAM, *words], env=self.variables, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"agentkernel {' '.join(words)}: {done.stderr}")
        return done.stdout

    def run(self, *words):
        """A run's output, the route it took, the phases of its report, and what it took as a whole."""
        report = self.folder / "report"
        began = time.perf_counter()
        output = self.must("run", "--memory", MEMORY, "--report", str(report), "--", *words)
        took = milliseconds(began)
        report = json.loads(report.read_text())
        return output, report["route"]["kind"], report["phases_us"], took

    def pool(self, size):
        self.must("pool", "set", "measured", str(size), "--memory", MEMORY)
        while (pool := self.status())["ready"] < size:
            if pool["failures"]:
                sys.exit(pool["last_failure"])
            time.sleep(0.02)
        return pool

    def status(self):
        return json.loads(self.must("pool", "ls", "--json"))["pools"][0]


def arguments_of(home):
    """What the machine's kernel was started with, without what Firecracker adds."""
    line, _, _, _ = home.run("cat", "/proc/cmdline")
    added = ("virtio_mmio.device=", "root=")
    return " ".join(word for word in line.split() if not word.startswith(added))


def golden_of(data, jail):
    """The saved machine that was used last, and what it is made of."""
    found = []
    for turn in (data / "agentkernel/firecracker/golden").glob("*.turn"):
        about = json.loads((turn.with_suffix("") / "about.json").read_text())
        if (about["plan"]["jail"] == "None") != jail:
            found.append((turn.stat().st_mtime, turn.with_suffix(""), about["plan"]))
    _, folder, plan = max(found, key=lambda some: some[0])
    return folder, plan


def weight(pid):
    """KiB that are a process's alone, and its share of all that it has."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"rss": sizes["Rss"], "private": private, "pss": sizes["Pss"]}


def weights():
    """Of machines and of their bridges, of this benchmark's own pool."""
    found = {"firecracker": [], "bridge": []}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[0] == b"firecracker":
                found["firecracker"].append(weight(entry.name))
            elif (entry / "comm").read_text() == "bridge\n":
                found["bridge"].append(weight(entry.name))
    return found


def programs():
    folder = os.environ.get("AGENTKERNEL_PROGRAMS")
    if folder:
        return pathlib.Path(folder)
    for words in (["build", "--release"], ["build", "--release", "-p", "agentkernel-daemon"]):
        subprocess.run(["cargo", *words], cwd=TOP, check=True)
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = next(line.split()[1] for line in told.splitlines() if line.startswith("host: "))
    return TOP / "target" / host / "release"


def measure(folder):
    samples = {name: [] for name in ("cold raw", "cold boot", "cold whole", "restore raw",
                                     "restore", "restore jailed", "pool whole")}
    data = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share")
    homes = {jail: Home(folder / str(jail), jail) for jail in (False, True)}
    for home in homes.values():
        home.must("daemon", "start", "-b")
    try:
        arguments = arguments_of(homes[False])
        for home in homes.values():
            home.pool(1)
        golden, plan = golden_of(data, jail=False)
        for number in range(ROUNDS):
            print(f"\rround {number + 1} of {ROUNDS}", end="", file=sys.stderr, flush=True)
            samples["cold raw"].append(raw_cold(plan, arguments))
            homes[False].must("pool", "rm", "measured")
            _, route, phases, took = homes[False].run("echo", "hello")
            assert route == "cold"
            samples["cold boot"].append((phases["boot"] + phases["ready"]) / 1000)
            samples["cold whole"].append(took)
            samples["restore raw"].append(raw_restore(plan, golden))
            samples["restore"].append(homes[False].pool(1)["last_boot_us"] / 1000)
            output, route, _, took = homes[True].run("echo", "hello")
            assert (output, route) == ("hello\n", "pool")
            samples["pool whole"].append(took)
            samples["restore jailed"].append(homes[True].pool(1)["last_boot_us"] / 1000)
        homes[False].must("pool", "rm", "measured")
        homes[True].pool(IDLE)
        return samples, weights()
    finally:
        for home in homes.values():
            home.must("daemon", "stop")


def main():
    global PROGRAM
    if "AGENTKERNEL_IMAGE" not in os.environ:
        sys.exit("AGENTKERNEL_IMAGE names no image of the store")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # Copied, as an installation does.
        (folder / "bin").mkdir()
        for name in ("agentkernel", "agentkerneld"):
            shutil.copy(programs() / name, folder / "bin")
        PROGRAM = str(folder / "bin/agentkernel")
        samples, found = measure(folder)
    print("", file=sys.stderr)
    for name, all_of_it in samples.items():
        low, high = min(all_of_it), max(all_of_it)
        print(f"{name:15} {statistics.median(all_of_it):9.1f} ms   ({low:.1f} to {high:.1f})")
    for name, all_of_it in found.items():
        for kind in ("rss", "private", "pss"):
            print(f"{name:12} {kind:8} {statistics.median(one[kind] for one in all_of_it):9.0f} KiB")
    said = subprocess.run([sys.executable, TOP / "scripts/machine-facts.py"], cwd=TOP,
                          capture_output=True, text=True, check=True)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H%M%SZ")
    results = pathlib.Path(os.environ.get("RESULTS") or TOP / "benchmark-results")
    path = results / f"firecracker-{now}.json"
    path.write_text(json.dumps({"facts": json.loads(said.stdout), "rounds": ROUNDS,
                                "samples_ms": samples, "kib": found}, indent=1))
    print(path)


main()
