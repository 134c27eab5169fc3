#!/usr/bin/env bash
# Tries shared pools by the resources of kubernetes-sigs/agent-sandbox, on the cluster of `. DIR/environment`,
# with their own controller: what is said where the cluster has none of it, that each pod is given once, and
# that nothing is left of whoever vanishes. Last it tells how long a run out of such a pool takes.
#
#   AGENT_SANDBOX_CONTROLLER=FILE AGENT_SANDBOX_CRDS=DIR [CLIENTS=20] [SIZE=4] scripts/lanes/cluster/sandboxes.sh
#
# The first names its controller's program, and the second a folder with what k8s/crds has in the repository
# of that version. Nothing of it is built here: without them this is skipped, with status 77.
set -euo pipefail
if [ -z "${AGENT_SANDBOX_CONTROLLER:-}" ] || [ -z "${AGENT_SANDBOX_CRDS:-}" ]; then
    echo "AGENT_SANDBOX_CONTROLLER and AGENT_SANDBOX_CRDS do not say where agent-sandbox is"
    exit 77
fi
if [ ! -e "$(dirname "$TESTKIT_KUBECTL")/takes-custom-resources" ]; then
    echo "this cluster's Kubernetes dies of custom resources: remove it, and have scripts/lanes/cluster.sh build it"
    exit 77
fi
. "$(dirname "${BASH_SOURCE[0]}")/with.sh"
. "$(dirname "${BASH_SOURCE[0]}")/race.sh"
clients=${CLIENTS:-20} size=${SIZE:-4}
controller=
group=extensions.agents.x-k8s.io
export KUBERNETES_POOLS=sandboxes

clean_up() {
    # What it keeps goes by the cluster's own hands.
    kubectl delete --wait=false crd sandboxclaims.$group sandboxwarmpools.$group sandboxtemplates.$group \
        sandboxes.agents.x-k8s.io >/dev/null 2>&1 || true
    kubectl delete --wait=false -f "$rights" >/dev/null 2>&1 || true
    stop_controller
    rm -rf "$work"
}
trap clean_up EXIT

# Without the server that converts older versions, which nobody here uses. And Kubernetes 1.20 takes an empty
# text for null, be it the default of a name, which nobody here leaves out, or the message of a condition.
install_crds() {
    local file
    for file in "$AGENT_SANDBOX_CRDS"/*.yaml; do
        sed '/^  conversion:$/,/^          path:/d; s/^\( *default:\) \W*$/\1 unnamed/
            s/^\( *\)maxLength: 32768$/&\n\1nullable: true/' "$file" | kubectl create --validate=false -f -
    done
}
start_controller() {
    KUBECONFIG=$admin "$AGENT_SANDBOX_CONTROLLER" --extensions --leader-elect=false --enable-webhook=false \
        --metrics-bind-address=0 --health-probe-bind-address=0 >>"$work/controller" 2>&1 &
    controller=$!
}
stop_controller() {
    [ -n "$controller" ] || return 0
    kill "$controller" 2>/dev/null || true
    wait "$controller" || true
    controller=
}

spec=(--backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" --cpus 0.5 --memory 64m)
pooled() { agentkernel run "${spec[@]}" --verbose -- "$@"; }
is_full() { agentkernel pool ls --shared -B kubernetes | grep -q "race .* $size *$size\$"; }
is_empty() { agentkernel pool ls --shared -B kubernetes | grep -q "race .* 0 *0\$"; }
no_claims() { [ -z "$(kubectl get sandboxclaims -o name)" ]; }
one_claim() { [ "$(kubectl get sandboxclaims -o name | wc -l)" = 1 ]; }
of_pools() { kubectl get pods -l '!agentkernel.dev/owner,app.kubernetes.io/managed-by=agentkernel' --no-headers; }
nothing_is_left() { no_claims && [ -z "$(of_pools)" ] && [ -z "$(kubectl get sandboxes,sandboxtemplates -o name)" ]; }
made() { grep -aoh "the cluster's pool race had no pod ready: it made" "$work"/report.* || true; }

timed() {
    local what=$1 ready=$2 try began
    shift 2
    for try in 1 2 3 4 5; do
        eventually "$ready"
        began=$(date +%s%N)
        "$TESTKIT_PROGRAM" run "${spec[@]}" "$@" -- echo hello | head -n 1 >/dev/null
        echo "   $what: $((($(date +%s%N) - began) / 1000000)) ms"
    done
}

own_folders
set_pool() { agentkernel pool set race "$1" --shared "${spec[@]}"; }
tells "a cluster without them" "serves no sandboxwarmpools.$group|hint:" set_pool "$size"
says "a run on such a cluster" "serves no sandboxwarmpools.$group" pooled true
install_crds >/dev/null
eventually kubectl get --raw /apis/$group/v1beta1
eventually kubectl get sandboxclaims,sandboxwarmpools,sandboxtemplates
tells "a cluster without their controller" "nobody has taken notice|--extensions" set_pool "$size"

start_controller
says "a shared pool is made" race set_pool "$size"
eventually is_full
says "$clients clients at once" "$clients of $clients answered" race
sed "s/^/   /" "$work/said"
echo "   $(made | wc -l) by pods that were made for their claims"
eventually no_claims
eventually is_full
run --cpus 0.5 --memory 128m --verbose -- true >"$work/said" 2>&1
says "another spec is another's" "" test -z "$(grep "cluster's pool" "$work/said")"
run --cpus 0.5 --memory 64m --no-pool --verbose -- true >"$work/said" 2>&1
says "nobody has to take one" "" test -z "$(grep "cluster's pool" "$work/said")"
KUBERNETES_POOLS=replicasets pooled true >"$work/said" 2>&1
says "nobody who has not said so takes one" "" test -z "$(grep "cluster's pool" "$work/said")"

# Whoever vanishes leaves nothing, and what is taken away is not begun again in what takes its place.
lone() { "$TESTKIT_PROGRAM" run "${spec[@]}" -- sh -c 'echo began >&2; sleep 300' 2>"$work/lone" >&2 </dev/null & lone=$!; }
eventually is_full
lone
eventually grep -q began "$work/lone"
kubectl get sandboxclaims -o 'jsonpath={.items[0].spec.lifecycle}' >"$work/lifecycle"
says "a claim has an end" "shutdownTime" cat "$work/lifecycle"
kill -9 $(pgrep -P $lone -f 'bridge kubernetes') $lone
wait $lone 2>/dev/null || true
gone_in=$SECONDS
for try in 1 2 3; do no_claims || sleep 20; done
says "a client that was killed with all of its own leaves no claim" "" no_claims
echo "   gone $((SECONDS - gone_in)) s later"
eventually is_full
lone
eventually grep -q began "$work/lone"
kubectl delete pod --wait=false "$(kubectl get sandboxclaims -o 'jsonpath={.items[0].status.sandbox.name}')" >/dev/null
status=0
wait $lone || status=$?
says "a pod that somebody deletes is lost ($status), and nothing is begun again" 1 grep -c began "$work/lone"
eventually no_claims

timed "a run out of the pool" is_full
requests | sort >"$work/before"
"$TESTKIT_PROGRAM" run "${spec[@]}" -- true
sleep 5
requests | sort >"$work/after"
echo "   asked of the API server by a run out of the pool, and by the controller for it and another pod:"
join -a 2 -e 0 -o 0,1.2,2.2 "$work/before" "$work/after" | awk '$3 > $2 { print "      " $1, $3 - $2 }'

set_pool 0 >/dev/null
eventually is_empty
says "a pool that is empty" "had no pod ready: one was made" pooled true
timed "a run while it is empty" is_empty
set_pool "$size" >/dev/null
eventually is_full
stop_controller
says "without the controller a run is served" "nobody has answered the claim" pooled true
eventually no_claims
start_controller
says "a shared pool is removed" race agentkernel pool rm race --shared -B kubernetes
eventually nothing_is_left
tells "a shared pool that is not there" "has no shared pool|hint:" agentkernel pool rm race --shared -B kubernetes

# By what deploy/kubernetes grants, each verb.
become_account
says "a shared pool with these rights" race set_pool 1
size=1
eventually is_full
says "a run out of it with these rights" "was ready in the cluster's pool race" pooled true
eventually is_full
says_without() {
    local verb=$1 resource=$2
    sed "/resources: \\[${resource%%.*}\\]/,/verbs:/s/\\(verbs:.*\\)\\b$verb\\b/\\1nothing/" "$rights" | kubectl apply -f - >/dev/null
    eventually may_not "$verb" "$resource"
    says "without $verb on $resource" "forbids to $verb $resource" pooled true
    kubectl apply -f "$rights" >/dev/null
    eventually may "$verb" "$resource"
}
says_without create sandboxclaims.$group
says_without watch sandboxclaims.$group
says_without list sandboxwarmpools.$group
without patch sandboxwarmpools.$group set_pool 2
without delete sandboxwarmpools.$group agentkernel pool rm race --shared -B kubernetes
says "that pool is removed" race agentkernel pool rm race --shared -B kubernetes
without create sandboxtemplates.$group set_pool 1

echo "sandboxes: $failed failed"
[ "$failed" = 0 ]
