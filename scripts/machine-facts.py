#!/usr/bin/env python3
"""Prints what a figure depends on as JSON: the machine, its kernel and its load, and the tools."""

import datetime
import json
import os
import pathlib
import platform
import subprocess


def said(*command):
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return None
    return run.stdout.strip() or None


def line(path, start):
    for text in pathlib.Path(path).read_text().splitlines():
        if text.startswith(start):
            return text.split(":", 1)[1].strip()
    return None


def cgroup_mode():
    root = pathlib.Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return "v2"
    return "hybrid" if (root / "unified").exists() else "v1"


print(json.dumps({
    "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    "commit": said("git", "rev-parse", "HEAD"),
    "changed": bool(said("git", "status", "--porcelain", "--untracked-files=no")),
    "kernel": platform.release(),
    "architecture": platform.machine(),
    "cpu": line("/proc/cpuinfo", "model name"),
    "cpus": os.cpu_count(),
    "memory": line("/proc/meminfo", "MemTotal"),
    "cgroup": cgroup_mode(),
    "uid": os.geteuid(),
    "load": os.getloadavg(),
    "versions": {
        "rustc": said("rustc", "--version"),
        "cargo": said("cargo", "--version"),
    },
}))
