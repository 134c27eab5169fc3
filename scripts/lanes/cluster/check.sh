#!/usr/bin/env bash
# Tries that nothing of cluster.sh's clusters is left of one that was taken down, nor of one whose `up` was
# killed: scripts/lanes/cluster/check.sh. The exit status is 77, with the reason in the last line, where
# there can be none.
set -euo pipefail
lane=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/cluster.sh
work=$(realpath "$(mktemp -d)")
dir=$work/cluster
cables() { ip -br link show type veth | grep -o '^ak[0-9a-f]*' || true; }

# Whatever the machine has that a cluster could have left. Other people's clusters may come and go.
machine() {
    local folder
    grep -F "$work" /proc/self/mountinfo || true
    pgrep -af -- "$dir" | grep -vF "$lane" || true
    cables
    ls -d /sys/fs/cgroup/*/agentkernel-cluster-* /sys/fs/cgroup/hugetlb 2>/dev/null || true
    for folder in /etc/cni /var/lib/{cni,kubelet,containerd} /var/log/{pods,containers} /run/containerd \
        /run/netns /usr/sbin/policy-rc.d; do
        [ ! -e $folder ] || echo $folder
    done
    iptables-save 2>/dev/null | grep -F 10.213. || true
    cat /proc/sys/vm/{overcommit_memory,panic_on_oom} /proc/sys/kernel/{panic,panic_on_oops} \
        /proc/sys/net/ipv4/ip_forward
}

same() {
    machine >"$work/after"
    diff "$work/before" "$work/after" || { echo "FAILED: $1 has left something"; exit 1; }
    [ ! -e "$dir" ] || { ls -A "$dir"; echo "FAILED: $1 has left its folder"; exit 1; }
    echo "$1: nothing is left"
}

trap '"$lane" down "$dir"; rm -rf "$work"' EXIT
machine >"$work/before"
"$lane" up "$dir"
"$lane" down "$dir"
same "a cluster that was up"
for seconds in 0.5 2 6; do
    status=0
    timeout --signal KILL $seconds "$lane" up "$dir" || status=$?
    [ $status = 137 ] || { echo "an up of $seconds s has ended with $status"; exit 1; }
    "$lane" down "$dir"
    same "one whose up was killed after $seconds s"
done
