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
without get pods/exec run -- true
agentkernel pool set few 1 --shared --backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" >/dev/null
pool_is_full() { agentkernel pool ls --shared -B kubernetes | grep -q 'few .* 1 *1$'; }
eventually pool_is_full
# It makes one instead.
without_patch() { run --verbose -- echo hello; }
sed '/resources: \[pods\]/,/verbs:/s/patch, //' "$rights" | kubectl apply -f - >/dev/null
eventually may_not patch pods
says "without patch on pods" "forbids to patch pods" without_patch
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
