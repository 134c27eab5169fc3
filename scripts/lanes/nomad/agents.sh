# How the lane of Nomad starts dev agents below `work`, its folder, and ends them. It sets `nomad`, and
# lists their numbers in `agents`.

# A port that nothing listens on, with the two after it.
free_ports() {
    local port next taken
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 10000)) taken=
        for next in 0 1 2; do
            ! (: <>"/dev/tcp/127.0.0.1/$((port + next))") 2>/dev/null || taken=1
        done
        [ -n "$taken" ] || break
    done
    echo "$port"
}

# Starts an agent with further lines of settings, and has NOMAD_ADDR name it. Loopback alone hears it.
start_agent() {
    local name=$1 port line
    shift
    port=$(free_ports)
    mkdir -p "$work/$name"
    {
        echo 'bind_addr = "127.0.0.1"'
        printf 'advertise {\n  http = "127.0.0.1"\n  rpc = "127.0.0.1"\n  serf = "127.0.0.1"\n}\n'
        printf 'ports {\n  http = %s\n  rpc = %s\n  serf = %s\n}\n' "$port" $((port + 1)) $((port + 2))
        echo 'disable_update_check = true'
        # What has ended is kept for whoever asks; the suite has more at once than Nomad keeps by itself.
        printf 'client {\n  network_interface = "lo"\n  gc_max_allocs = 400\n}\n'
        printf 'plugin "docker" {\n  config {\n    volumes {\n      enabled = true\n    }\n  }\n}\n'
        for line; do echo "$line"; done
    } >"$work/$name.hcl"
    # What a dev agent keeps is below TMPDIR.
    setsid env -i "PATH=$PATH" HOME="$work" TMPDIR="$work/$name" "$nomad" agent -dev -config "$work/$name.hcl" \
        </dev/null >"$work/$name.log" 2>&1 &
    agents+=($!)
    export NOMAD_ADDR=${scheme:-http}://127.0.0.1:$port
    await "$name" "$nomad" server members || return 1
}

# Waits until a command succeeds, as long as the agent lives. The token may be missing for it: Nomad
# answers then, too.
await() {
    local name=$1 said
    shift
    for _ in {1..300}; do
        if said=$("$@" 2>&1) || [[ $said = *'Permission denied'* ]]; then return 0; fi
        kill -0 "${agents[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 5 "$work/$name.log"
    echo "the agent $name does not come: $*: $said"
    return 1
}

# What Nomad says of that, and of which of its states by the headers in $work/headers.
get() {
    curl -sf -D "$work/headers" -H "X-Nomad-Token: ${NOMAD_TOKEN:-}" ${NOMAD_CACERT:+--cacert "$NOMAD_CACERT"} \
        ${NOMAD_CLIENT_CERT:+--cert "$NOMAD_CLIENT_CERT" --key "$NOMAD_CLIENT_KEY"} "$NOMAD_ADDR/v1/$1"
}

# Waits until a node will take a sandbox: Nomad answers once something of its nodes is not as it was.
await_node() {
    local name=$1 index=0 until=$((SECONDS + 90)) nodes=
    local ready='any(.[]; .Status == "ready" and .SchedulingEligibility == "eligible" and .Drivers.docker.Healthy)'
    while [ "$SECONDS" -lt "$until" ]; do
        if nodes=$(get "nodes?index=$index&wait=10s"); then
            if jq -e "$ready" <<<"$nodes" >/dev/null; then return 0; fi
            index=$(sed -n 's/^x-nomad-index: \([0-9]*\).*/\1/Ip' "$work/headers")
        else
            # There is no leader yet.
            sleep 0.2
        fi
        kill -0 "${agents[-1]}" 2>/dev/null || break
    done
    tail -n 5 "$work/$name.log"
    echo "no node of the agent $name takes a sandbox: $nodes"
    return 1
}

# Ends the agents, with all that they have started: an agent that is told to stop ends its tasks first.
end_agents() {
    local agent left
    for agent in "${agents[@]}"; do kill -INT "$agent" 2>/dev/null || true; done
    for agent in "${agents[@]}"; do
        timeout 30 tail --pid="$agent" -f /dev/null || true
        left=$(ps -o pid= -s "$agent" || true)
        # shellcheck disable=SC2086 # one word each
        [ -z "$left" ] || kill -KILL $left 2>/dev/null || true
    done
    awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r umount -l
}
