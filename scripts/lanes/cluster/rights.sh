#!/usr/bin/env bash
# Tries what deploy/kubernetes has, on the cluster of `. DIR/environment`: that agentkernel works with those
# rights, from outside and as a daemon of the cluster's own, and that without any of them it says which one
# is missing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/with.sh"
trap 'kubectl delete --wait=false -f "$rights" >/dev/null; rm -rf "$work"' EXIT

living() { create one && agentkernel exec one -- echo lives && agentkernel rm -f one; }

in_cluster() { kubectl --request-timeout 0 -n agentkernel exec deploy/agentkerneld -- agentkernel "$@"; }

own_folders
become_account

says "a run with these rights" hello run -- echo hello
says "a sandbox that lives with these rights" lives living
without create pods run -- true
without watch pods run -- true
without create networkpolicies.networking.k8s.io run --network none -- true
# It opens an exec instead; and without that, too, it says so.
sed '/resources: \[pods\/portforward\]/,/verbs:/s/get, create/nothing/' "$rights" >"$work/by-exec"
kubectl apply -f "$work/by-exec" >/dev/null
eventually may_not get pods/portforward
says "without get on pods/portforward" hello run -- echo hello
rights=$work/by-exec without get pods/exec run -- true
kubectl apply -f "$rights" >/dev/null
eventually may get pods/portforward
agentkernel pool set few 1 --shared --backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" >/dev/null
pool_is_full() { agentkernel pool ls --shared -B kubernetes | grep -q 'few .* 1 *1$'; }
eventually pool_is_full
# It makes one instead.
without_patch() { run --verbose -- echo hello; }
sed '/resources: \[pods\]/,/verbs:/s/patch, //' "$rights" | kubectl apply -f - >/dev/null
eventually may_not patch pods
says "without patch on pods" "forbids to patch pods" without_patch
create here
elsewhere() {
    env XDG_DATA_HOME="$work/elsewhere" XDG_STATE_HOME="$work/elsewhere" XDG_RUNTIME_DIR="$work/elsewhere" \
        timeout 90 "$TESTKIT_PROGRAM" "$@"
}
mkdir -m 700 "$work/elsewhere"
tells "an adoption without patch on pods" "verb \"patch\" on \"pods\"" elsewhere adopt -B kubernetes here
says "which has left nothing" "" test -z "$(elsewhere ps -aq)"
says "and taken nothing away" lives agentkernel exec here -- echo lives
agentkernel rm -f here >/dev/null
kubectl apply -f "$rights" >/dev/null
eventually may patch pods
without delete replicasets agentkernel pool rm few --shared -B kubernetes
without create replicasets agentkernel pool set more 1 --shared --backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE"
agentkernel pool rm few --shared -B kubernetes >/dev/null
create two
without delete pods agentkernel rm -f two
agentkernel rm -f two >/dev/null 2>&1 || true

kubectl apply -f "$checkout/deploy/kubernetes/agentkerneld.yaml" >/dev/null
kubectl --request-timeout 0 -n agentkernel rollout status deploy/agentkerneld --timeout 60s >/dev/null
says "the daemon in the cluster" hello in_cluster run --backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" -- echo hello

echo "rights: $failed failed"
[ "$failed" = 0 ]
