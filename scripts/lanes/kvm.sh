#!/usr/bin/env bash
# Runs modules in micro-VMs on this machine's own /dev/kvm, whatever that can do: with a guest that has no
# floating-point numbers, which is for tests only and never part of a release. The guest of releases runs
# in the lane of emulated machines.
#
#   scripts/lanes/kvm.sh [FILTER...]
#
# FILTER is what of the conformance suite to run; without any, all of one route and some of the
# others, since an emulated KVM takes half a second for each run. Of many cases that are alike it tries a
# few, unless a filter is --all-routes. The exit status is 77, with the reason in the
# last line, where the lane can't run.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ -w /dev/kvm ] || { echo "there is no /dev/kvm that could be used"; exit 77; }
export TESTKIT_PLAIN_GUEST=1 TESTKIT_PATIENCE=${TESTKIT_PATIENCE:-4}
# By what else `cargo test --workspace` has built. Whoever comes next is to have the other guest.
cargo test --workspace --quiet --no-run --test conformance
other_guest() { cargo test --workspace --quiet --no-run --test daemon "$@"; }
trap other_guest EXIT
other_guest --features agentkernel-daemon/plain-guest
ready=$("${CARGO_TARGET_DIR:-target}"/*-linux-*/debug/agentkernel doctor --json || true)
why=$(python3 -c 'import json, sys
for one in json.loads(sys.argv[1])["backends"]:
    if one["name"] == "hyperlight" and not one.get("ready"):
        print(one.get("why") or one)' "$ready")
[ -z "$why" ] || { echo "this machine's KVM runs no guest: $why"; exit 77; }
[ $# -gt 0 ] || set -- hyperlight/root/cold hyperlight/root/pool/invoke \
    hyperlight/root/pool/module-time hyperlight/root/live/module-lives
said=$(mktemp)
trap 'rm -f "$said"; other_guest' EXIT
cargo test --workspace --test conformance -- --slowest "$@" | tee "$said" && exit
# An emulated KVM's time is not its own: what fails is tried once more, by itself.
mapfile -t again < <(sed -n 's/^FAILED \([^:]*\):.*/\1/p' "$said")
[ ${#again[@]} -gt 0 ] && [ ${#again[@]} -le 5 ] || exit 1
echo "once more: ${again[*]}"
cargo test --workspace --test conformance -- "${again[@]}"
