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

# Whether nothing runs in a sandbox any more.
is_lost() { ! agentkernel exec "$1" -- true; }

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

# As a client sees it whose clock is ahead: the server's certificate has expired.
state_clock_skew() {
    local server
    openssl req -newkey rsa:2048 -nodes -keyout "$work/key" -subj /CN=late -out "$work/request" 2>/dev/null
    openssl x509 -req -in "$work/request" -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial \
        -days -1 -extfile <(echo subjectAltName=IP:127.0.0.1) -out "$work/late" 2>/dev/null
    openssl s_server -accept 127.0.0.1:10443 -key "$work/key" -cert "$work/late" -quiet >/dev/null 2>&1 </dev/null &
    server=$!
    eventually grep -q ":$(printf %04X 10443) 00000000:0000 0A" /proc/net/tcp
    sed 's|server: "[^"]*"|server: "https://127.0.0.1:10443"|' "$admin" >"$work/skewed"
    KUBECONFIG=$work/skewed tells "a clock that is wrong" "xpired|clock|hint:" run -- true
    kill "$server"
}

# What a command says that the server's restart comes amid is heard once, and it is run once.
state_api_server_restarts() {
    create restarted
    agentkernel exec restarted -- sh -c 'echo begun; sleep 10; echo ran >> ~/times; echo ended; wc -l < ~/times' \
        >"$work/amid" 2>&1 </dev/null &
    local amid=$!
    eventually grep -q begun "$work/amid"
    "$lane" stop "$dir" apiserver
    tells "no API server" "can't be reached|hint:" run -- true
    "$lane" start "$dir" apiserver
    eventually api_is_back
    wait $amid || true
    says "a command amid the restart" "begun ended 1" echo $(cat "$work/amid")
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

# Nothing but the pod's events tells of it.
state_no_such_runtime() {
    kubectl apply -f - >/dev/null <<-END
	{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "ghost"}, "handler": "ghost"}
	END
    KUBERNETES_RUNTIME_CLASS=ghost tells "a pod that its node can't make" \
        "FailedCreatePodSandBox|ghost|KUBERNETES_RUNTIME_CLASS" run -- true
    kubectl delete runtimeclass ghost >/dev/null
}

state_unschedulable() {
    KUBERNETES_NODE_SELECTOR=disk=none tells "a pod that no node takes" \
        "no node of the cluster can take the pod|KUBERNETES_NODE_SELECTOR" run -- true
}

state_deleted_pod() {
    create deleted
    kubectl delete --grace-period=0 --force "$(pod)" >/dev/null 2>&1
    # Its node hears of it later.
    eventually is_lost deleted
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
    eventually is_lost evicted
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
