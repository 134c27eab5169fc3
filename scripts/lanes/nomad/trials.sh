# What the lane of Nomad tries besides the suite and the rights: streams that are cut, nodes that go, many at
# once, and TLS. It is for nomad.sh, and takes what agents.sh does.

# The lines of settings of an agent that keeps what it knows, for a name and a port.
lasting() {
    printf 'bind_addr = "127.0.0.1"\ndata_dir = "%s"\ndisable_update_check = true\n' "$work/$1-data"
    printf 'advertise {\n  http = "127.0.0.1"\n  rpc = "127.0.0.1"\n  serf = "127.0.0.1"\n}\n'
    printf 'ports {\n  http = %s\n  rpc = %s\n  serf = %s\n}\n' "$2" $(($2 + 1)) $(($2 + 2))
}

# Starts an agent that can be started again, in $last.
start_lasting() {
    setsid env -i "PATH=$PATH" HOME="$work" TMPDIR="$work" "$nomad" agent -config "$work/$1.hcl" \
        </dev/null >>"$work/$1.log" 2>&1 &
    last=$!
    agents+=("$last")
}

# A server and a node, each an agent of its own: one that was both would forget the node's allocations.
start_pair() {
    local port node_port
    port=$(free_ports)
    { lasting server "$port"; printf 'server {\n  enabled = true\n  bootstrap_expect = 1\n}\n'; } >"$work/server.hcl"
    export NOMAD_ADDR=http://127.0.0.1:$port
    start_lasting server
    await server "$nomad" server members
    node_port=$(free_ports)
    {
        lasting node "$node_port"
        printf 'client {\n  enabled = true\n  servers = ["127.0.0.1:%s"]\n  network_interface = "lo"\n}\n' $((port + 1))
        printf 'plugin "docker" {\n  config {\n    volumes {\n      enabled = true\n    }\n  }\n}\n'
    } >"$work/node.hcl"
    start_lasting node
    await_node node
}

wrong() {
    echo "$*"
    exit 1
}

# Why the allocations are as they are, for whoever looks for a fault: a node that its server takes for dead,
# on a machine that was busy or asleep, has them lost.
of_allocations() {
    get allocations | jq -r '.[] | "\(.ClientStatus) (\(.DesiredStatus)): \(.ClientDescription) \(.DesiredDescription)"'
    get nodes | jq -r '.[] | "node: \(.Status) \(.StatusDescription)"'
    grep -aE 'heartbeat|missed|lost' "$work/server.log" "$work/node.log" | tail -n 10
}

# The first words of a command's error.
said_by() {
    ! agentkernel "$@" 2>&1 >/dev/null || wrong "this works: agentkernel $*"
}

# A node's agent is killed, and one is stopped, while a command speaks: it is heard in full, and has run once.
restarts() {
    local signal counter
    start_pair
    agentkernel create -B nomad --image "$image" lasting
    agentkernel start lasting
    for signal in KILL INT; do
        agentkernel exec lasting -- sh -c 'for i in $(seq 50); do echo $i; echo $i >>/tmp/seen; sleep 0.2; done' \
            >"$work/heard" &
        counter=$!
        sleep 2
        kill "-$signal" "$last"
        sleep 2
        start_lasting node
        wait "$counter" || wrong "a command ended with $? as its node's agent got SIG$signal: $(of_allocations)"
        await_node node
        seq 50 | cmp - "$work/heard" || wrong "a command was not heard once as its node's agent got SIG$signal"
    done
    agentkernel stop lasting
    agentkernel start lasting
    [ "$(agentkernel exec lasting -- sh -c 'wc -l </tmp/seen')" = 100 ] || wrong "a stop loses files"
    say "streams that are cut go on, and files outlive a stop"
    drains
}

# A node is drained while a command runs there.
drains() {
    local node said status=0
    node=$(get nodes | jq -r '.[0].ID')
    agentkernel exec lasting -- sleep 60 2>"$work/said" &
    sleep 1
    "$nomad" node drain -enable -force -yes "$node" >/dev/null
    wait $! || status=$?
    [ "$status" = 125 ] || wrong "on a node that is drained a command ends with $status"
    said=$(said_by start lasting)
    [[ $said = *'is lost'* ]] || wrong "a sandbox whose node was drained says: $said"
    said=$(said_by run -B nomad --image "$image" -- true)
    [[ $said = *"can't place"* ]] || wrong "without a node to be placed on it says: $said"
    "$nomad" node drain -disable -yes "$node" >/dev/null
    agentkernel rm -f lasting
    say "of a node that is drained: $(head -n 1 <<<"$said" | cut -c 1-150)"
}

# As many as there are of them work at once.
many() {
    local number waited=() failed=0 said most
    agentkernel create -B nomad --image "$image" shared
    agentkernel start shared
    for number in {1..50}; do
        agentkernel exec shared -- echo "$number" >"$work/many-$number" 2>&1 &
        waited+=($!)
    done
    for number in "${waited[@]}"; do wait "$number" || failed=$((failed + 1)); done
    [ "$failed" = 0 ] || wrong "$failed of 50 clients at once fail: $(cat "$work"/many-* | grep error | head -n 1)"
    [ "$(cat "$work"/many-* | sort -n)" = "$(seq 50)" ] || wrong "50 clients at once get each other's words"
    agentkernel rm -f shared
    waited=()
    for number in {1..20}; do
        agentkernel run -B nomad --image "$image" -- sh -c 'sleep 2; echo ok' >"$work/many-$number" 2>&1 &
        waited+=($!)
    done
    for number in "${waited[@]}"; do wait "$number" || failed=$((failed + 1)); done
    [ "$failed" = 0 ] || wrong "$failed of 20 sandboxes at once fail: $(cat "$work"/many-* | grep error | head -n 1)"
    say "50 of 50 clients and 20 of 20 sandboxes at once"
    # More than half of what there is.
    most=$(awk '/^MemTotal/ { print int($2 / 1024 * 0.6) }' /proc/meminfo)m
    agentkernel create -B nomad --memory "$most" --image "$image" large
    agentkernel start large
    said=$(said_by run -B nomad --memory "$most" --image "$image" -- true)
    [[ $said = *'memory exhausted'* ]] || wrong "of a node that is full it says: $said"
    agentkernel rm -f large
}

# A key and a certificate of a name, which the authority signs.
certify() {
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.csr" 2>/dev/null
    openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
        -extfile <(echo "subjectAltName=DNS:$1,IP:127.0.0.1") -out "$work/$1.pem" 2>/dev/null
}

# Over TLS, where both ends must be known.
over_tls() {
    local said
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -days 2 -keyout "$work/ca.key" \
        -out "$work/ca.pem" 2>/dev/null
    certify server.global.nomad
    certify client
    export NOMAD_CACERT=$work/ca.pem NOMAD_CLIENT_CERT=$work/client.pem NOMAD_CLIENT_KEY=$work/client.key
    # Which the command line of Nomad is to speak, too.
    scheme=https start_agent secure 'tls {' '  http = true' '  verify_https_client = true' \
        "  ca_file = \"$work/ca.pem\"" "  cert_file = \"$work/server.global.nomad.pem\"" \
        "  key_file = \"$work/server.global.nomad.key\"" '}'
    await_node secure
    said=$(agentkernel run -B nomad --image "$image" -- echo hello)
    [ "$said" = hello ] || wrong "over TLS it says: $said"
    said=$(NOMAD_CLIENT_CERT='' NOMAD_CLIENT_KEY='' said_by run -B nomad --image "$image" -- true)
    say "over TLS it works, and without an own certificate: $(head -n 1 <<<"$said" | cut -c 1-150)"
    said=$(NOMAD_CACERT='' said_by run -B nomad --image "$image" -- true)
    [[ $said = *NOMAD_CACERT* ]] || wrong "of an authority that nobody trusts it says: $said"
    unset NOMAD_CACERT NOMAD_CLIENT_CERT NOMAD_CLIENT_KEY
}
