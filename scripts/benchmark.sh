#!/usr/bin/env bash
# How long each step of a sandbox's life takes: create, start, exec, stop, remove. See
# docs/benchmarking.md.
#
#   scripts/benchmark.sh [ITERATIONS]         (default: 10 sandboxes, one after the other)
#
# AGENTKERNEL_BACKEND picks the backend. Prints a table and writes two files into
# benchmark-results/, or into the folder $RESULTS.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -le 1 ] || { echo "usage: $0 [iterations]" >&2; exit 2; }

BENCH_SANDBOXES=${1:-10} BENCH_ITERATIONS=1 BENCH_MAX_CONCURRENT=1 \
    exec cargo test --quiet --workspace --test benchmark_test -- --nocapture --ignored
