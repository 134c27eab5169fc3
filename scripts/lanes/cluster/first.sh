#!/usr/bin/env bash
# The first process of a cluster, in namespaces of its own: see ../cluster.sh, which sets `dir`, `bin`,
# `group`, `node` and `service`. Whatever it mounts and starts ends with it.
set -euo pipefail
cd "$dir"

# What the cluster's programs have where no setting can lead them elsewhere, such as logs of pods, and
# networks of containers, is its own.
own_folders() {
    local folder
    for folder in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs $folder; done
    mkdir -p /run/netns
}

# The kubelet wants the controller of huge pages, too, which a machine may not have mounted.
own_groups() {
    local entry
    # What runtimes make in the tree of version 2, where there is one beside those of version 1, this
    # kubelet never removes.
    ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
    [ ! -d /sys/fs/cgroup/hugetlb ] || return 0
    mount -t tmpfs -o mode=755 tmpfs /mnt
    for entry in /sys/fs/cgroup/*; do
        if [ -L "$entry" ]; then
            cp -P "$entry" /mnt/
        elif [ -d "$entry" ]; then
            mkdir "/mnt/${entry##*/}"
            mount --bind "$entry" "/mnt/${entry##*/}"
        fi
    done
    mkdir /mnt/hugetlb
    mount -t cgroup -o hugetlb hugetlb /mnt/hugetlb && mkdir -p "/mnt/hugetlb/$group" || rmdir /mnt/hugetlb
    mount --move /mnt /sys/fs/cgroup
}

# The kubelet sets what is the whole machine's. It finds it set, and whatever it writes, writes a file.
own_tunables() {
    local tunable
    while read -r tunable value; do
        [ -e "/proc/sys/$tunable" ] || continue
        echo "$value" >"run/${tunable//\//.}"
        mount --bind "run/${tunable//\//.}" "/proc/sys/$tunable"
    done <<-TUNABLES
	vm/overcommit_memory 1
	vm/panic_on_oom 0
	kernel/panic 10
	kernel/panic_on_oops 1
	kernel/keys/root_maxkeys 1000000
	kernel/keys/root_maxbytes 25000000
	TUNABLES
}

own_network() {
    ip link set lo up
    ip addr add "$service/32" dev lo
    echo 1 >/proc/sys/net/ipv4/ip_forward
    # The other end is plugged in from outside.
    until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
    ip addr add "$node/30" dev eth0
    ip link set eth0 up
    ip route add default via "${node%.*}.1"
}

# Starts a program, and writes down how, so that it can be had again.
launch() {
    local name=$1
    shift
    {
        printf 'cd %q\necho $$ >run/%q.pid\nexec' "$dir" "$name"
        printf ' %q' "$@"
    } >"run/$name"
    setsid bash "run/$name" </dev/null >"log/$name" 2>&1 &
}

launch_all() {
    launch containerd containerd -c "$dir/containerd.toml"
    launch etcd etcd --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn
    launch apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 \
        --advertise-address="$node" --secure-port=443 --tls-cert-file=pki/api.crt \
        --tls-private-key-file=pki/api.key --cert-dir=run --client-ca-file=pki/ca.crt \
        --token-auth-file=pki/tokens.csv --authorization-mode=Node,RBAC \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file=pki/accounts.pub --service-account-signing-key-file=pki/accounts.key \
        --service-cluster-ip-range="${service%.*}.0/24" --endpoint-reconciler-type=none \
        --allow-privileged=true --kubelet-preferred-address-types=InternalIP \
        --kubelet-client-certificate=pki/to-kubelet.crt --kubelet-client-key=pki/to-kubelet.key
    launch controllers "$bin/kube-controller-manager" --kubeconfig=kube-controller-manager.kubeconfig \
        --service-account-private-key-file=pki/accounts.key --root-ca-file=pki/ca.crt \
        --use-service-account-credentials --leader-elect=false --bind-address=127.0.0.1 --cert-dir=run \
        --node-monitor-grace-period=10s --pod-eviction-timeout=5s
    launch scheduler "$bin/kube-scheduler" --kubeconfig=kube-scheduler.kubeconfig --leader-elect=false \
        --bind-address=127.0.0.1
    launch kubelet "$bin/kubelet" --config=kubelet.yaml --kubeconfig=node.kubeconfig \
        --hostname-override=node --node-ip="$node" --root-dir="$dir/kubelet" --cert-dir=run \
        --container-runtime=remote --container-runtime-endpoint="unix://$dir/containerd.sock" -v 1
}

own_folders
own_groups
own_tunables
own_network
launch_all
# Orphans are this one's.
sleep infinity &
wait $!
