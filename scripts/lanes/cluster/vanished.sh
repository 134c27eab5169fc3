#!/usr/bin/env bash
# Tries that nothing is left of a client that is killed just when it has claimed a pod of a shared pool, on the
# cluster of `. DIR/environment`, and that whoever uses such a pod does not notice that it is looked for.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/with.sh"
trap 'agentkernel pool rm vanished --shared -B kubernetes >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

spec=(--backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" --cpus 0.5 --memory 48m)
idle() { kubectl get pods -l agentkernel.dev/pool --no-headers; }
is_full() { [ "$(idle | grep -c ' Running ')" = 1 ]; }

own_folders
agentkernel pool set vanished 1 --shared "${spec[@]}" >/dev/null
eventually is_full
# What the claim of a client that is killed then has written.
claimed=$(idle | cut -d ' ' -f 1)
kubectl patch "pod/$claimed" --type merge -p '{"metadata": {"ownerReferences": null,
    "labels": {"agentkernel.dev/pool": null, "agentkernel.dev/owner": "nobody", "agentkernel.dev/pod": "vanished"},
    "annotations": {"agentkernel.dev/key": "00000000000000000000000000000000"}},
    "spec": {"activeDeadlineSeconds": 86400}}' >/dev/null
eventually is_full
agentkernel run "${spec[@]}" --verbose -- sh -c 'echo begun; sleep 50; echo ended' >"$work/amid" 2>&1 </dev/null &
amid=$!
eventually grep -q begun "$work/amid"

agentkernel prune -f >/dev/null
has_ended() { [ "$(kubectl get pod "$claimed" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" -gt 0 ]; }
# It waits for half a minute, as any agent whose stream is cut.
sleep 20
eventually has_ended
says "its agent has ended" "" true
agentkernel prune -f >/dev/null
is_gone() { ! kubectl get pod "$claimed"; }
eventually is_gone
says "the pod is removed" "" true
wait $amid || true
says "a run in another one goes on" "cluster's pool vanished" cat "$work/amid"
says "to its end" ended cat "$work/amid"

echo "vanished: $failed failed"
[ "$failed" = 0 ]
