#!/usr/bin/env bash
# How long a newcomer waits for the first `hello`: a cold release build of the small program, from a
# fresh clone of the last commit, with the dependencies already downloaded. See
# docs/benchmarking.md.
#
# Writes benchmark-results/build-DATE.json, or into the folder $RESULTS.
set -euo pipefail
cd "$(dirname "$0")/.."

results=${RESULTS:-benchmark-results}
mkdir -p "$results"
results=$(cd "$results" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet . "$work/clone"
python3 scripts/machine-facts.py >"$work/before.json"
cd "$work/clone"
unset CARGO_TARGET_DIR RUSTC_WRAPPER
cargo fetch --locked --quiet
TIMEFORMAT='%R %U %S'
{ time cargo build --release --locked --offline --quiet; } 2>"$work/time"
program=$(echo "$work"/clone/target/*-linux-*/release/agentkernel)
said=$("$program" run -- echo hello)
cd "$OLDPWD"
python3 scripts/machine-facts.py >"$work/after.json"
python3 - "$work" "$results" "$program" "$said" <<'PYTHON'
import json
import pathlib
import sys

work, results, program = map(pathlib.Path, sys.argv[1:4])
before, after = (json.loads((work / name).read_text()) for name in ("before.json", "after.json"))
before["load_after"] = after["load"]
real, user, system = map(float, (work / "time").read_text().split()[-3:])
document = {
    "machine": before,
    "build": {
        "command": "cargo build --release",
        "real_s": real,
        "user_s": user,
        "system_s": system,
        "bytes": program.stat().st_size,
    },
    "said": sys.argv[4],
}
path = results / f"build-{before['date'].replace(':', '').replace('+0000', 'Z')}.json"
path.write_text(json.dumps(document) + "\n")
print(f"{real:.1f} s ({user:.1f} s of processor time and {system:.1f} s of the kernel's), and it said {sys.argv[4]!r}")
print(path)
sys.exit(sys.argv[4] != "hello")
PYTHON
