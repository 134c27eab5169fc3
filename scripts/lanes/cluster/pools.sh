#!/usr/bin/env bash
# Tries pools that clients share, on the cluster of `. DIR/environment`: each of their pods is given once,
# whoever comes too late is served all the same, and only equal specs meet. Last it tells how long a run out
# of such a pool takes, and what agentkernel asks the API server for.
#
#   [CLIENTS=50] [SIZE=8] scripts/lanes/cluster/pools.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/with.sh"
. "$(dirname "${BASH_SOURCE[0]}")/race.sh"
clients=${CLIENTS:-50} size=${SIZE:-8}
trap 'agentkernel pool rm race --shared -B kubernetes >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

spec=(--backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" --cpus 0.5 --memory 64m)
idle() { kubectl get pods -l agentkernel.dev/pool --no-headers; }
is_full() { [ "$(idle | grep -c ' Running ')" = "$size" ]; }
nobody_has_any() { [ -z "$(kubectl get pods -l agentkernel.dev/owner -o name)" ]; }

own_folders
says "a shared pool is made" race agentkernel pool set race "$size" --shared "${spec[@]}"
eventually is_full
says "it is told" race agentkernel pool ls --shared -B kubernetes
# Longer than an agent waits for a word once somebody is there.
[ -z "${PATIENT:-}" ] || sleep 70
says "$clients clients at once" "$clients of $clients answered" race
sed "s/^/   /" "$work/said"
eventually nobody_has_any
eventually is_full
run --cpus 0.5 --memory 128m --verbose -- true >"$work/said" 2>&1
says "another spec is another's" "" test -z "$(grep "cluster's pool" "$work/said")"
run --cpus 0.5 --memory 64m --no-pool --verbose -- true >"$work/said" 2>&1
says "nobody has to take one" "" test -z "$(grep "cluster's pool" "$work/said")"

# What has ended once is nobody's, and goes.
worn=$(idle | awk 'NR == 1 { print $1 }')
end_agent() {
    local uid pid
    uid=$(kubectl get pod "$worn" -o 'jsonpath={.metadata.uid}')
    for pid in $(grep -l "pod$uid" /proc/[0-9]*/cgroup 2>/dev/null | cut -d / -f 3); do
        ! grep -qa '^/.agentkernel/agent' "/proc/$pid/cmdline" || kill -9 "$pid"
    done
}
is_started_again() { [ "$(kubectl get pod "$worn" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" -gt 0 ]; }
is_gone() { ! kubectl get pod "$worn"; }
end_agent
eventually is_started_again
says "a run while a pod is worn" hello agentkernel run "${spec[@]}" -- echo hello
agentkernel prune -f >/dev/null
eventually is_gone

for try in 1 2 3 4 5; do
    eventually is_full
    began=$(date +%s%N)
    "$TESTKIT_PROGRAM" run "${spec[@]}" -- echo hello | head -n 1 >/dev/null
    echo "   a run out of the pool: $((($(date +%s%N) - began) / 1000000)) ms"
done

requests | sort >"$work/before"
"$TESTKIT_PROGRAM" run "${spec[@]}" -- true
requests | sort >"$work/after"
echo "   asked of the API server by a run out of the pool, and by the cluster for another pod:"
join -a 2 -e 0 -o 0,1.2,2.2 "$work/before" "$work/after" | awk '$3 > $2 { print "      " $1, $3 - $2 }'

says "a shared pool is removed" race agentkernel pool rm race --shared -B kubernetes
nothing_is_left() { [ -z "$(kubectl get pods -l app.kubernetes.io/managed-by=agentkernel -o name)" ]; }
eventually nothing_is_left
tells "a shared pool that is not there" "has no shared pool|hint:" agentkernel pool rm race --shared -B kubernetes

echo "pools: $failed failed"
[ "$failed" = 0 ]
