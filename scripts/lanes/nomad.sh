#!/usr/bin/env bash
# Runs the conformance suite on a Nomad of one node, and tries what deploy/nomad grants: with that policy
# agentkernel works, and of each right that is taken away it says which it is.
#
#   scripts/lanes/nomad.sh [OPTION or FILTER...]
#   scripts/lanes/nomad.sh up DIR      and then   . DIR/environment
#   scripts/lanes/nomad.sh down DIR
#
# `up` has an agent and Docker be there until `down`, for what else is to be tried or measured; without a
# TESTKIT_PROGRAM the environment names no NOMAD_AGENT_PATH. Options and filters are the suite's; without
# any it tries each behaviour on one route, drawn by lot. `trials` alone tries only the policy, agents that
# are restarted, nodes that are drained, many at once, and TLS. What was run is in the last line. It takes
# the nomad that NOMAD_BIN names or PATH has, and Docker, brought up by containers.sh. TESTKIT_PROGRAM may be
# an agentkernel with agentkerneld beside it; else they are built.
#
# The exit status is 77, with the reason in the last line, where the lane can't run: no package carries a
# nomad, and it is not made here.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
nomad=${NOMAD_BIN:-$(command -v nomad || true)}
# Its own, since others may be at work beside it, and all share one Docker.
image=localhost/agentkernel-test:lane-$$
work= agents=()

say() { printf '%s nomad lane: %s\n' "$(date +%T)" "$*"; }

skip() {
    echo "$*"
    exit 77
}

. "$here/nomad/agents.sh"
. "$here/nomad/trials.sh"

leave() {
    end_agents
    docker -H unix:///var/run/docker.sock rmi "$image" >/dev/null 2>&1 || true
    "$here/containers.sh" down "$work/engines"
    rm -rf "$work"
}

# Has Docker, the image and an agent be there, below $work.
bring_up() {
    trap leave EXIT
    trap 'exit 1' INT TERM HUP
    chmod 711 "$work"
    mkdir -p "$work"/home/{state,run}
    "$here/containers.sh" up "$work/engines" || true
    [ -e "$work/engines/environment" ] || skip "no engine could be brought up"
    . "$work/engines/environment"
    [ -n "${TESTKIT_DOCKER:-}" ] || skip "Docker could not be brought up"
    # Nomad asks a registry for what is called latest, each time.
    docker -H "unix://$TESTKIT_DOCKER" tag "$TESTKIT_IMAGE" "$image"
    export TESTKIT_NOMAD_IMAGE=$image
    start_agent open
    await_node open
    say "$("$nomad" version | head -n 1), at $NOMAD_ADDR"
}

up() {
    work=$(realpath -m "$1")
    [ ! -e "$work/agents" ] || { echo "$work is up"; exit 1; }
    mkdir -p "$work"
    bring_up
    echo "${agents[*]}" >"$work/agents"
    echo "$image" >"$work/image"
    {
        printf 'export NOMAD_ADDR=%q TESTKIT_NOMAD_IMAGE=%q\n' "$NOMAD_ADDR" "$image"
        printf 'export PATH=%q:$PATH\n' "$(dirname "$(realpath "$nomad")")"
        if [ -n "${TESTKIT_PROGRAM:-}" ]; then
            printf 'export NOMAD_AGENT_PATH=%q\n' "$(realpath "$TESTKIT_PROGRAM")"
        fi
    } >"$work/environment"
    trap - EXIT
}

down() {
    work=$(realpath -m "$1")
    [ -e "$work/agents" ] || { echo "$work is not up"; exit 1; }
    read -ra agents <"$work/agents"
    image=$(cat "$work/image")
    leave
}

# Where commands of agentkernel find what they need and leave what they must, and nothing of the caller's.
agentkernel() {
    env -i "PATH=$PATH" "HOME=$work/home" "XDG_STATE_HOME=$work/home/state" "XDG_RUNTIME_DIR=$work/home/run" \
        "NOMAD_ADDR=$NOMAD_ADDR" "NOMAD_TOKEN=${NOMAD_TOKEN:-}" "NOMAD_AGENT_PATH=$NOMAD_AGENT_PATH" \
        "NOMAD_CACERT=${NOMAD_CACERT:-}" "NOMAD_CLIENT_CERT=${NOMAD_CLIENT_CERT:-}" \
        "NOMAD_CLIENT_KEY=${NOMAD_CLIENT_KEY:-}" \
        timeout 60 "$TESTKIT_PROGRAM" "$@"
}

# A token that has what the policy of deploy/nomad grants but for what an address of sed's finds.
token_without() {
    sed "$1d" "$checkout/deploy/nomad/agentkernel.policy.hcl" >"$work/policy.hcl"
    "$nomad" acl policy apply "$2" "$work/policy.hcl" >/dev/null
    "$nomad" acl token create -name "$2" -policy "$2" | sed -n 's/^Secret ID *= //p'
}

# agentkernel must fail, and name what is missing.
must_name() {
    local right=$1 said
    shift
    case $right in
    *:*) NOMAD_TOKEN=$(token_without "/^${right%:*} {/,/^}/" "without-${right/:/-}") ;;
    *) NOMAD_TOKEN=$(token_without "/\"$right\",/" "without-$right") ;;
    esac
    if said=$(agentkernel "$@" 2>&1); then
        echo "without $right, this works: agentkernel $*: $said"
        exit 1
    fi
    case $said in
    *"$right"* | *"${right%:*} { policy = \"${right#*:}\" }"*) say "without $right: $(tail -n 1 <<<"$said" | cut -c 1-200)" ;;
    *)
        echo "without $right, agentkernel $* does not name it: $said"
        exit 1
        ;;
    esac
    export NOMAD_TOKEN=$management
}

rights() {
    local management right said
    start_agent closed 'acl {' '  enabled = true' '}'
    for _ in {1..50}; do
        management=$("$nomad" acl bootstrap 2>"$work/said" | sed -n 's/^Secret ID *= //p') || true
        [ -z "$management" ] || break
        # There is no leader yet.
        sleep 0.2
    done
    [ -n "$management" ] || { cat "$work/said"; exit 1; }
    export NOMAD_TOKEN=$management
    await_node closed
    NOMAD_TOKEN=$(token_without '/^$/' agentkernel)
    said=$(agentkernel run -B nomad --cpus 1 --image "$image" -- echo hello)
    [ "$said" = hello ] || { echo "with all rights it says: $said"; exit 1; }
    say "with deploy/nomad's policy and no other right, agentkernel works"
    export NOMAD_TOKEN=$management
    for right in submit-job read-job alloc-exec; do
        must_name $right run -B nomad --image "$image" -- true
    done
    must_name node:read run -B nomad --cpus 1 --image "$image" -- true
}

get_programs() {
    cd "$checkout"
    if [ -z "${TESTKIT_PROGRAM:-}" ]; then
        cargo build --quiet --workspace
        TESTKIT_PROGRAM=$(echo "$PWD/${CARGO_TARGET_DIR:-target}"/*-linux-*/debug/agentkernel)
    fi
    export TESTKIT_PROGRAM NOMAD_AGENT_PATH=$TESTKIT_PROGRAM
}

main() {
    local tool
    if [ "$#:${1:-}" = 2:down ]; then
        down "$2"
        return
    fi
    [ -n "$nomad" ] || skip "there is no nomad on PATH, and NOMAD_BIN names none"
    [ "$(id -u)" = 0 ] || skip "only root can start Docker and Nomad's agent"
    for tool in jq curl openssl; do
        command -v "$tool" >/dev/null || skip "there is no $tool"
    done
    if [ "$#:${1:-}" = 2:up ]; then
        up "$2"
        return
    fi
    work=$(mktemp -d)
    bring_up
    get_programs
    local suite="no suite"
    if [ "$*" != trials ]; then
        [ $# -gt 0 ] || set -- --one-route nomad/
        cargo test --workspace --test conformance -- --slowest --workers=3 "$@"
        suite="the suite ($*)"
    fi
    many
    restarts
    over_tls
    rights
    say "ran: $suite, many at once, restarts, a drain, TLS, each right taken away"
}

main "$@"
