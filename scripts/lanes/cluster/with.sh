# What the lane's tests of a cluster have in common: whoever has this has read DIR/environment, and is in
# `set -euo pipefail`. Each says of itself what is tried; `failed` counts what went wrong.

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
work=$(mktemp -d)
failed=0
# Who may do everything.
admin=$KUBECONFIG

# A user's own folders, so that nothing is found that others have made.
own_folders() {
    export XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state XDG_CONFIG_HOME=$work/config
    export XDG_RUNTIME_DIR=$work/run XDG_CACHE_HOME=$work/cache
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    cd "$work"
}

kubectl() { "$TESTKIT_KUBECTL" --kubeconfig "$admin" --request-timeout 20s "$@"; }

agentkernel() { timeout 90 "$TESTKIT_PROGRAM" "$@"; }

run() { agentkernel run --backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" "$@"; }

# A sandbox with a name, which lives.
create() {
    agentkernel create --backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" --name "$1" >/dev/null
    agentkernel start "$1" >/dev/null
}

# Runs a command, and sets `said` to what it says. Not by a pipe, of which whoever it leaves would have the
# other end.
hear() {
    local status=0
    "$@" >"$work/said" 2>&1 </dev/null || status=$?
    said=$(cat "$work/said")
    return $status
}

# A command that is to succeed and to say a word.
says() {
    local what=$1 word=$2 said
    shift 2
    if hear "$@" && [[ $said == *"$word"* ]]; then
        echo "ok: $what"
    else
        printf 'FAILED: %s: %s\n' "$what" "$said"
        failed=$((failed + 1))
    fi
}

# A command that is to fail with a message in which each of some words is. They are parted by `|`.
tells() {
    local what=$1 words=$2 said word
    shift 2
    if hear "$@"; then
        printf 'FAILED: %s: it did not fail: %s\n' "$what" "$said"
        failed=$((failed + 1))
        return
    fi
    while read -rd '|' word; do
        [[ $said == *"$word"* ]] && continue
        printf 'FAILED: %s: %q is missing in: %s\n' "$what" "$word" "$said"
        failed=$((failed + 1))
        return
    done <<<"$words|"
    echo "ok: $what: $(grep -a -m 1 error: <<<"$said" | cut -c 1-200)"
}

# Waits for something that a cluster does in the end.
eventually() {
    local tries
    for tries in {1..300}; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    echo "FAILED: in 30 s there was no end of waiting for: $*"
    exit 1
}

# A kubeconfig of a service account's, as who has a token has it.
kubeconfig_of() {
    local account=$1 namespace=$2 server authority token
    server=$(kubectl config view --raw -o 'jsonpath={.clusters[0].cluster.server}')
    authority=$(kubectl config view --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority}')
    token=$(printf '{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}' |
        kubectl create --raw "/api/v1/namespaces/$namespace/serviceaccounts/$account/token" -f - |
        sed -n 's/.*"token":"\([^"]*\)".*/\1/p')
    cat <<-END
	apiVersion: v1
	kind: Config
	clusters: [{name: c, cluster: {server: "$server", certificate-authority: "$authority"}}]
	users: [{name: u, user: {token: "$token"}}]
	contexts: [{name: c, context: {cluster: c, user: u, namespace: $namespace}}]
	current-context: c
	END
}

# What deploy/kubernetes grants, and to whom.
rights=$checkout/deploy/kubernetes/rights.yaml
account=system:serviceaccount:agentkernel:agentkernel

# Has agentkernel be whom it grants that to.
become_account() {
    # Of an earlier one, the namespace may still be on its way out.
    eventually kubectl apply -f "$rights"
    eventually kubectl -n agentkernel get serviceaccount agentkernel
    kubeconfig_of agentkernel agentkernel >"$work/kubeconfig"
    export KUBECONFIG=$work/kubeconfig
    eventually may create pods
}

# Whether the account may, in the cluster's own words: yes or no.
may() { [ "$(can "$@")" = yes ]; }
may_not() { [ "$(can "$@")" = no ]; }
can() {
    local part=()
    [[ $2 != */* ]] || part=(--subresource "${2#*/}")
    kubectl -n agentkernel auth can-i --as "$account" "$1" "${2%/*}" "${part[@]}" || true
}

# Tries a command without a verb on a resource, and whether what it says has both, and further words.
without() {
    local verb=$1 resource=$2
    shift 2
    sed "\\|resources: \\[${resource%%.*}\\]|,/verbs:/s/\\(verbs:.*\\)\\b$verb\\b/\\1nothing/" "$rights" |
        kubectl apply -f - >/dev/null
    eventually may_not "$verb" "$resource"
    tells "without $verb on $resource" "$verb|${resource%%.*}" "$@"
    kubectl apply -f "$rights" >/dev/null
    eventually may "$verb" "$resource"
}
