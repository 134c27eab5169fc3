#!/usr/bin/env bash
# What `agentkernel run` costs, next to the bare command and to its neighbour on this machine. See
# docs/benchmarking.md.
#
#   scripts/benchmark-run.sh [RUNS]           (default: 200 of each command)
#
# Prints a table and writes benchmark-results/run-DATE.json, or into the folder $RESULTS.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-200}
results=${RESULTS:-benchmark-results}
# hyperfine measures one command after the other. In many short rounds, each in another order,
# whatever slows the machine down for a while hits all commands alike.
rounds=$((runs < 10 ? 1 : 10))

for tool in hyperfine python3; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
cargo build --release --quiet
agentkernel=$(echo "$PWD"/target/*-linux-*/release/agentkernel)

names=(true echo version run run-network-full run-permissive)
commands=(
    "/bin/true"
    "/bin/echo hello"
    "$agentkernel --version"
    "$agentkernel run -- /bin/echo hello"
    "$agentkernel run --network full -- /bin/echo hello"
    "$agentkernel run --profile permissive -- /bin/echo hello"
)
# The same namespaces and nothing else: no root, no walls, no limits.
unshare="unshare --user --map-root-user --net --mount --pid --ipc --uts --cgroup --fork --mount-proc /bin/echo hello"
if command -v unshare >/dev/null && $unshare >/dev/null 2>&1; then
    names+=(unshare)
    commands+=("$unshare")
else
    echo "unshare is not installed or does not run here: the table goes without it" >&2
fi
bwrap="bwrap --ro-bind / / --unshare-all --die-with-parent --proc /proc --dev /dev /bin/echo hello"
if command -v bwrap >/dev/null && $bwrap >/dev/null 2>&1; then
    names+=(bwrap)
    commands+=("$bwrap")
else
    echo "bwrap is not installed or does not run here: the table goes without it" >&2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Settings of whoever runs this are no part of what is measured.
cd "$work"
export XDG_CONFIG_HOME="$work"
(cd "$OLDPWD" && python3 scripts/machine-facts.py) >before.json
for ((round = 0; round < rounds; round++)); do
    arguments=()
    for ((i = 0; i < ${#names[@]}; i++)); do
        at=$(((i + round) % ${#names[@]}))
        arguments+=(--command-name "${names[at]}" "${commands[at]}")
    done
    # A failure is counted below, not a reason to stop.
    hyperfine -N --warmup 3 --runs $((runs / rounds)) --ignore-failure --style none \
        --export-json "round-$round.json" "${arguments[@]}" >/dev/null 2>&1
done
(cd "$OLDPWD" && python3 scripts/machine-facts.py) >after.json
cd "$OLDPWD"

mkdir -p "$results"
python3 - "$work" "$results" <<'PYTHON'
import json
import pathlib
import statistics
import sys

work, results = map(pathlib.Path, sys.argv[1:])
before, after = (json.loads((work / name).read_text()) for name in ("before.json", "after.json"))
rounds = [json.loads((work / f"round-{n}.json").read_text())
          for n in range(len(list(work.glob("round-*.json"))))]

# hyperfine's own word for a command is its name here; the first round has their usual order.
order = [result["command"] for result in rounds[0]["results"]]
of = {name: [r for one in rounds for r in one["results"] if r["command"] == name] for name in order}
table = {}
for name, parts in of.items():
    times = sorted(1000 * time for part in parts for time in part["times"])
    middles = [1000 * statistics.median(part["times"]) for part in parts]
    table[name] = {
        "runs": len(times),
        "failures": sum(code != 0 for part in parts for code in part["exit_codes"]),
        "median_ms": statistics.median(times),
        "min_ms": times[0],
        "p95_ms": times[min(len(times) - 1, round(0.95 * len(times)))],
        "medians_of_rounds_ms": middles,
    }
for row in table.values():
    for neighbour in ("echo", "bwrap"):
        if neighbour in table:
            row[f"of_{neighbour}"] = row["median_ms"] / table[neighbour]["median_ms"]

before["load_after"] = after["load"]
document = {"machine": before, "table": table, "hyperfine": rounds}
path = results / f"run-{before['date'].replace(':', '').replace('+0000', 'Z')}.json"
path.write_text(json.dumps(document) + "\n")

print(f"{'':18}{'median':>9}{'min':>9}{'p95':>9}  {'of echo':>8}{'of bwrap':>9}")
for name, row in table.items():
    ratio = f"{row['of_bwrap']:9.2f}" if "of_bwrap" in row else f"{'-':>9}"
    failures = f"  {row['failures']} FAILED" if row["failures"] else ""
    print(f"{name:18}{row['median_ms']:6.2f} ms{row['min_ms']:6.2f} ms{row['p95_ms']:6.2f} ms"
          f"  {row['of_echo']:8.2f}{ratio}{failures}")
load = " ".join(f"{one:.2f}" for one in before["load"] + after["load"])
print(f"{table['echo']['runs']} runs of each in {len(rounds)} rounds; load before and after: {load}")
print(path)
sys.exit(any(row["failures"] for row in table.values()))
PYTHON
