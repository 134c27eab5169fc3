# Many clients of the shared pool `race` at once, and what they cost, for scripts that have read with.sh: there
# are `clients` of them, and the pool of `spec` has `size` pods.

# Which pods were claimed, by those who have.
claimed() { grep -aoh "the pod [^ ]* was ready in the cluster's pool race" "$work"/report.* || true; }

# Each of many at once says its own word, and hears it.
race() {
    local i answered=0 all=()
    for ((i = 0; i < clients; i++)); do
        timeout 300 "$TESTKIT_PROGRAM" run "${spec[@]}" --report "$work/report.$i" -- \
            sh -c 'echo "hello $0"' "$i" >"$work/client.$i" 2>"$work/error.$i" </dev/null &
        all+=($!)
    done
    wait "${all[@]}" || true
    for ((i = 0; i < clients; i++)); do
        if [ "$(cat "$work/client.$i")" = "hello $i" ]; then
            answered=$((answered + 1))
        else
            sed "s/^/client $i: /" "$work/error.$i" | head -n 2
        fi
    done
    echo "$answered of $clients answered, $(claimed | wc -l) with a pod out of a pool of $size"
    [ -z "$(claimed | sort | uniq -d)" ] || { echo "pods that were given twice: $(claimed | sort | uniq -d)"; return 1; }
    [ "$answered" = "$clients" ] && [ "$(claimed | wc -l)" -gt 0 ]
}

# What was asked of the API server, but for watches, which are counted when they end.
requests() {
    kubectl get --raw /metrics | sed -n 's/^apiserver_request_total{.*resource="\([^"]*\)".*subresource="\([^"]*\)".*verb="\([^"]*\)".*} \(.*\)/\3:\1:\2 \4/p' |
        grep -E '^(POST|LIST|PATCH|PUT|DELETE|CONNECT|WATCH):(pods|networkpolicies|sandbox)' | awk '{ n[$1] += $2 } END { for (a in n) print a, n[a] }'
}
