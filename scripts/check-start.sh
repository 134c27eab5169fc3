#!/usr/bin/env bash
# Keeps the small program small: what its start costs is counted, not timed, so that the answer is
# the same on a busy machine.
#
#   scripts/check-start.sh [AGENTKERNEL]      (default: the release build, which is made if need be)
#
# What can't be counted for want of a tool is said and passed over, unless CI is set.
set -euo pipefail
cd "$(dirname "$0")/.."

# Each bound is what was counted when it was last set, and about a tenth of room. Whoever has a
# good reason to go above one raises it here, with the reason in the commit.

# Dynamic relocations. Each is a word that is written at every start, and its page copied: 66,000 of
# them cost a program 4 ms. They come from tables of pointers (trait objects, strings in statics).
MAX_RELOCATIONS=5850
# Bytes of the file. A page that is touched has to be mapped, and a large program touches more; a
# jump here means that somebody linked a client library, a runtime or TLS. It is the agent, too, which
# packs and unpacks trees where only it reaches them: 200 KB.
MAX_BYTES=6300000
# Instructions of `agentkernel --version`, the relocations' among them: more than half. A jump here
# means that something is set up or probed before it is known to be needed.
MAX_INSTRUCTIONS=98700
# System calls of the same, with the C library's dozen. Any more is a probe, a file or a thread.
MAX_CALLS=21

if [ $# -ge 1 ]; then
    program=$1
else
    cargo build --release --quiet
    program=$(echo target/*-linux-*/release/agentkernel)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0

judge() { # what, count, bound
    local verdict=ok
    if [ "$2" -gt "$3" ]; then
        verdict="TOO MANY"
        wrong=1
    fi
    printf '%-28s %10d of %10d  %s\n' "$1" "$2" "$3" "$verdict"
}

has() {
    if command -v "$1" >/dev/null; then return 0; fi
    echo "not counted without $1: $2"
    if [ -n "${CI:-}" ]; then wrong=1; fi
    return 1
}

judge "bytes of the file" "$(stat -c %s "$program")" "$MAX_BYTES"
if has readelf "dynamic relocations"; then
    judge "dynamic relocations" "$(readelf -rW "$program" | grep -c ' R_')" "$MAX_RELOCATIONS"
    if readelf -lW "$program" | grep -q INTERP; then
        echo "the program is not static: a loader would start before it"
        wrong=1
    fi
fi
if has valgrind "instructions of --version"; then
    env -i "$(command -v valgrind)" --tool=callgrind --callgrind-out-file=/dev/null \
        "$program" --version >"$work/out" 2>"$work/err" || { cat "$work/err"; exit 1; }
    grep -q '^agentkernel ' "$work/out"
    count=$(sed -n 's/.*Collected : *//p' "$work/err")
    judge "instructions of --version" "$count" "$MAX_INSTRUCTIONS"
fi
if has strace "system calls of --version"; then
    if env -i "$(command -v strace)" -f -o "$work/calls" "$program" --version >/dev/null; then
        judge "system calls of --version" "$(grep -c '(' "$work/calls")" "$MAX_CALLS"
    else
        echo "not counted, since tracing is forbidden here: system calls of --version"
    fi
fi
exit "$wrong"
