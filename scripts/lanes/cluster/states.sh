#!/usr/bin/env bash
# Puts the cluster in a folder into states that clusters get into, and tries what agentkernel makes of each:
#
#   . DIR/environment; scripts/lanes/cluster/states.sh DIR [STATE...]
#
# The states are the functions below whose names begin with `state_`; without any, all of them.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/with.sh"
dir=$1
shift
lane=$checkout/scripts/lanes/cluster.sh
trap 'kubectl delete --ignore-not-found --wait=false namespace states >/dev/null; rm -rf "$work"' EXIT

# The one pod that there is.
pod() { kubectl get pods -o name | head -n 1; }

api_is_back() { [ "$(kubectl get --raw /readyz)" = ok ]; }
node_is() { [ "$(kubectl get node node -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = "$1" ]; }

state_no_cluster() {
    sed 's|server: "[^"]*"|server: "https://127.0.0.1:1"|' "$admin" >"$work/none"
    KUBECONFIG=$work/none tells "no cluster" "can't be reached|Connection refused|hint:" run -- true
}

state_revoked_token() {
    sed 's/token: "[^"]*"/token: "0123456789abcdef"/' "$admin" >"$work/unknown"
    KUBECONFIG=$work/unknown tells "a revoked token" "credentials are wrong or expired|hint: log in" run -- true
}

# One that the command has lived through has an answer, and it is run once.
state_api_server_restarts() {
    create restarted
    "$lane" stop "$dir" apiserver
    tells "no API server" "can't be reached|hint:" run -- true
    "$lane" start "$dir" apiserver
    eventually api_is_back
    says "a sandbox after the API server came back" lives agentkernel exec restarted -- echo lives
    agentkernel rm -f restarted >/dev/null
}

state_quota() {
    kubectl -n states create quota few --hard=pods=0 >/dev/null
    KUBERNETES_NAMESPACE=states tells "a quota" "quota|few|pods=0|hint:" run -- true
    kubectl -n states delete quota few >/dev/null
}

# A finalizer of somebody's keeps it from ending.
state_terminating_namespace() {
    kubectl create namespace ending >/dev/null
    kubectl -n ending create configmap held >/dev/null
    kubectl -n ending patch configmap held --type merge -p '{"metadata": {"finalizers": ["test.local/held"]}}' >/dev/null
    kubectl delete --wait=false namespace ending >/dev/null
    KUBERNETES_NAMESPACE=ending tells "a terminating namespace" "ending is terminating|hint:" run -- true
    kubectl -n ending patch configmap held --type merge -p '{"metadata": {"finalizers": null}}' >/dev/null
}

state_no_namespace() {
    KUBERNETES_NAMESPACE=nowhere tells "no namespace" "no namespace nowhere|hint:" run -- true
}

state_image_pull() {
    tells "an image that can't be pulled" "can't pull the image|127.0.0.1:1/none|hint:" \
        agentkernel run --backend kubernetes --image 127.0.0.1:1/none:1 -- true
    KUBERNETES_AGENT_IMAGE=127.0.0.1:1/agent:1 tells "an agent's image that can't be pulled" \
        "can't pull the image|KUBERNETES_AGENT_IMAGE" run -- true
}

state_unschedulable() {
    KUBERNETES_NODE_SELECTOR=disk=none tells "a pod that no node takes" \
        "no node of the cluster can take the pod|KUBERNETES_NODE_SELECTOR" run -- true
}

state_deleted_pod() {
    create deleted
    kubectl delete --grace-period=0 --force "$(pod)" >/dev/null 2>&1
    tells "a pod that was deleted" "error:" agentkernel exec deleted -- true
    agentkernel rm -f deleted >/dev/null
}

# As the API has it whatever a node does to it.
state_evicted_pod() {
    create evicted
    kubectl create --raw "/api/v1/namespaces/default/$(pod | sed 's/^pod/pods/')/eviction" -f - >/dev/null <<-END
	{"apiVersion": "policy/v1beta1", "kind": "Eviction",
	 "metadata": {"name": "$(pod | cut -d/ -f2)", "namespace": "default"}}
	END
    tells "a pod that was evicted" "error:" agentkernel exec evicted -- true
    agentkernel rm -f evicted >/dev/null
}

state_node_is_gone() {
    "$lane" stop "$dir" kubelet
    eventually node_is Unknown
    tells "a node that is gone" "no node of the cluster can take the pod" run -- true
    "$lane" start "$dir" kubelet
    eventually node_is True
    says "a run when it is back" hello run -- echo hello
}

own_folders
eventually kubectl create namespace states
eventually kubectl -n states get serviceaccount default
[ $# -gt 0 ] || set -- $(declare -F | sed -n 's/^declare -f state_//p')
for state; do "state_$state"; done
echo "states: $failed failed"
[ "$failed" = 0 ]
