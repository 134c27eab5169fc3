#!/usr/bin/env bash
# Many sandboxes, so many at once: how many live through it, and how fast. See
# docs/benchmarking.md.
#
#   scripts/stress-test.sh [TOTAL] [CONCURRENCY]      (default: 100 sandboxes, 10 at once)
#
# AGENTKERNEL_BACKEND picks the backend. Prints a table and writes two files into
# benchmark-results/, or into the folder $RESULTS.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -le 2 ] || { echo "usage: $0 [total] [concurrency]" >&2; exit 2; }

STRESS_VM_COUNT=${1:-100} STRESS_MAX_CONCURRENT=${2:-10} \
    exec cargo test --quiet --workspace --test stress_test -- --nocapture --ignored
