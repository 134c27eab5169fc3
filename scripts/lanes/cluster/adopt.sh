#!/usr/bin/env bash
# Tries sandboxes that live from two machines, on the cluster of `. DIR/environment`: each machine is a user's
# folders of its own. What one has made the other finds, takes over and uses, whatever has become of the first
# one's bridge; of two who want the same one gets it; and whoever has lost one leaves it alone.
#
#   scripts/lanes/cluster/adopt.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/with.sh"
trap 'kubectl delete --ignore-not-found --wait=false pods -l agentkernel.dev/kept=true >/dev/null; rm -rf "$work"' EXIT

# Everything that a machine has of its own.
for machine in a b c; do
    mkdir -p "$work/$machine"
    mkdir -m 700 "$work/$machine/run"
done
on() {
    local there=$work/$1
    shift
    env XDG_DATA_HOME="$there/data" XDG_STATE_HOME="$there/state" XDG_CONFIG_HOME="$there/config" \
        XDG_RUNTIME_DIR="$there/run" XDG_CACHE_HOME="$there/cache" timeout 90 "$TESTKIT_PROGRAM" "$@"
}
cd "$work"

begin() {
    on a create --backend kubernetes --image "$TESTKIT_CLUSTER_IMAGE" --env WORD=told --label "of=$1" "$1" >/dev/null
    on a start "$1" >/dev/null
    on a exec "$1" -- sh -c 'echo kept > ~/file'
}
# The process that holds the stream of one.
bridge_of() { on "$1" inspect "$2" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -n 1; }
id_of() { on a inspect "$1" | sed -n 's/.*"id": *"\([0-9a-f]*\)".*/\1/p' | head -n 1; }
adopt() { on "$1" adopt --backend kubernetes "$2"; }
file() { on "$1" exec --env WORD=told "$2" -- sh -c 'echo "$(cat ~/file) $WORD"'; }
is_lost_on() { ! on "$1" exec "$2" -- true; }
pods() { kubectl get pods -l agentkernel.dev/kept=true --no-headers; }

says "nothing is there to adopt" NAME on b adopt -B kubernetes
begin one
id=$(id_of one)
says "it is shown elsewhere" "one " on b adopt -B kubernetes
says "and for programs" "\"name\":\"one\",\"id\":\"$id\"" on b adopt -B kubernetes --json
says "who has it is not shown it" NAME on a adopt -B kubernetes
tells "one that is not there" "no sandbox nothing|hint:" adopt b nothing
tells "a backend that has none" "native backend has no sandboxes that can be adopted|-B kubernetes" \
    on b adopt -B native one

says "it is taken while its bridge lives, and told what is not known" "gives to a command: WORD" adopt b one
says "its files are there" "kept told" file b one
says "its variables are nobody else's" "none" on b exec one -- sh -c 'echo "${WORD:-none}"'
says "nor in the cluster" "" test -z "$(kubectl get pods -o json | grep -F told)"
eventually is_lost_on a one
tells "who had it is told" "adopted, and lives on elsewhere" on a exec one -- true
tells "and can't start it" "was adopted by|adopt NAME -B kubernetes" on a start one
says "it is listed as stopped there" stopped on a ps -a
on a prune -f >/dev/null
says "what who had it prunes is not the pod" "kept told" file b one
says "it is not shown to who has it now" "" test -z "$(on b adopt -B kubernetes | grep "$id")"

# By whom nothing of it is known any more, and whose name is another's.
on a create --backend native one >/dev/null
tells "a name that is taken" "one" adopt a one
on a rm one >/dev/null
says "it is taken back" one adopt a one
says "and used" "kept told" file a one
eventually is_lost_on b one
says "who has lost it forgets it" one on b rm one
says "and leaves it alone" "kept told" file a one

# The bridge is killed, a command runs.
on a exec one -- sh -c 'echo begun; sleep 5; echo ran >> ~/times; sleep 60; echo ended' >"$work/amid" 2>&1 </dev/null &
amid=$!
eventually grep -q begun "$work/amid"
kill -9 "$(bridge_of a one)"
says "it is taken after its bridge was killed" one adopt b one
status=0
wait $amid || status=$?
sed 's/^/   /' "$work/amid"
says "who waited is told that the command is lost" "" test "$status" = 125
tells "the command has gone on nowhere, nor run again" "" on b exec one -- sh -c 'sleep 6; test -e ~/times'
says "its files are there" "kept told" file b one
tells "who had it can't start it" "was adopted by" on a start one
says "nor does it remove the pod" one on a rm -f one
says "which is used" "kept told" file b one

# A command amid an adoption, while the bridge lives.
on b exec one -- sh -c 'echo begun; sleep 60; echo ended' >"$work/amid" 2>&1 </dev/null &
amid=$!
eventually grep -q begun "$work/amid"
says "it is taken amid a command" one adopt a one
status=0
wait $amid || status=$?
says "whoever waited is told" "" test "$status" = 125
sed 's/^/   /' "$work/amid"

# Two at once.
both() {
    local got=0 m
    adopt b one >"$work/got.b" 2>&1 &
    local first=$!
    adopt c one >"$work/got.c" 2>&1 &
    local second=$!
    wait $first && got=$((got + 1))
    wait $second && got=$((got + 1))
    sed 's/^/   /' "$work/got.b" "$work/got.c"
    [ "$got" = 1 ]
}
says "of two at once one gets it" "" both
sed 's/^/   /' "$work/said"
winner=b
on b ps | grep -q one || winner=c
says "who can use it" "kept told" file $winner one

# Those that are of no use.
pod=agentkernel-$id
kubectl annotate --overwrite "pod/$pod" "agentkernel.dev/sandbox={\"version\":\"0.0.1\"}" >/dev/null
tells "another version's" "version 0.0.1|this is" adopt a "$id"
kubectl annotate "pod/$pod" agentkernel.dev/sandbox- >/dev/null
tells "an older version's" "tells nobody" adopt a "$id"
says "which is told in the list" "can't be adopted" on a adopt -B kubernetes
says "it is removed" one on $winner rm -f one
no_pods() { [ -z "$(pods)" ]; }
eventually no_pods

begin ending
kubectl patch "$(kubectl get pods -l agentkernel.dev/kept=true -o name | head -n 1)" --type merge \
    -p '{"spec": {"activeDeadlineSeconds": 1}}' >/dev/null
has_ended() { pods | grep -qE 'DeadlineExceeded|Error|Failed|Completed'; }
eventually has_ended
tells "one that has ended" "has ended" adopt b ending
on a rm -f ending >/dev/null
eventually no_pods

echo "adopt: $failed failed"
[ "$failed" = 0 ]
