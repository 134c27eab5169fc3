#!/usr/bin/env bash
# Brings a real Kubernetes cluster of one node up on a bare Debian machine, for the suites that need one,
# and takes it down again.
#
#   scripts/lanes/cluster.sh build        makes Kubernetes of Debian's source, which takes minutes
#   scripts/lanes/cluster.sh built        tells which was made; status 77 if none was
#   scripts/lanes/cluster.sh up DIR       and then   . DIR/environment
#   scripts/lanes/cluster.sh down DIR
#   scripts/lanes/cluster.sh stop DIR PROGRAM    ends one of the cluster's programs: apiserver, controllers,
#   scripts/lanes/cluster.sh start DIR PROGRAM   scheduler, kubelet, containerd or etcd; and has it again
#
# Everything of a cluster is in namespaces of its own, those of mounts, processes and the network, so that
# several can be up at once, and nothing is left of one whose first process is gone: of the machine it has
# only one end of a cable, control groups below one name, and DIR. `down` needs no `up` that ended well.
#
# The names in DIR/environment are
#
#   KUBECONFIG               the credentials of somebody who may do everything, for root and the suites'
#                            ordinary user
#   KUBERNETES_AGENT_IMAGE   the image with the agent
#   TESTKIT_CLUSTER_IMAGE    what the suites' commands need; beside it the node has
#                            localhost/agentkernel-empty, -busybox, -daemon and -pause
#   TESTKIT_CLUSTER_GROUP    the name of its control groups, where the suites look for what is left
#   TESTKIT_PROGRAM          the agentkernel whose agent that is; the caller's, or made for it
#   TESTKIT_KUBECTL          the cluster's command line
#
# What is built is kept under XDG_CACHE_HOME. There is no name service and no kube-proxy, and the network
# enforces no policies. The exit status is 77, with the reason in the last line, where it can't be had, and
# 1 if something failed. It needs root, or sudo.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/agentkernel-cluster-lane
. "$here/containers/images.sh"
. "$here/containers/start.sh"
. "$here/containers/undo.sh"
. "$here/cluster/build.sh"
. "$here/cluster/settings.sh"
. "$here/cluster/undo.sh"

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022
# One of the cluster's services: its API, as pods know it.
service=10.96.0.1
# The suites' ordinary user: `ORDINARY` in crates/testkit/src/subject.rs.
ordinary=23456

usage() {
    echo "usage: scripts/lanes/cluster.sh build|built|up DIR|down DIR|stop DIR PROGRAM|start DIR PROGRAM"
    exit 2
}

# Where everything of one cluster is, and what of it the machine sees.
name_folders() {
    dir=$1
    made=$dir/made
    local sum
    sum=$(md5sum <<<"$dir")
    cable=ak${sum:0:10}
    group=agentkernel-cluster-${sum:0:10}
    KUBECONFIG=$dir/admin.kubeconfig
}

kubectl() { "$bin/kubectl" --kubeconfig "$KUBECONFIG" --request-timeout 10s "$@"; }

# Runs a command where the cluster is.
inside() { nsenter -t "$(cat "$dir/first")" -m -p -n "$@"; }

# Waits for a command as long as the cluster's first process lives; the first word is how long.
until_true() {
    local tries=$(($1 * 10)) what=$2
    shift 2
    for ((; tries > 0; tries--)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        kill -0 "$started" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 3 "$dir"/log/* 2>/dev/null | cut -c 1-300
    echo "$what does not come up"
    exit 1
}

# A network of two addresses that nobody has, for the two ends of the cable.
pick_addresses() {
    local third
    for third in {0..255}; do
        ip -4 -o addr show | grep -qF " 10.213.$third." && continue
        machine=10.213.$third.1
        node=10.213.$third.2
        return
    done
    skip "all addresses of 10.213.0.0/16 are taken"
}

# Starts the first process, with whom all others end, and plugs the cable in.
start_first() {
    remember groups "$group"
    make_groups
    # Of its own doing, it leaves only when it is killed.
    start remember_tree "$dir/log/first" env -i "PATH=$bin:$PATH" HOME=/root \
        "dir=$dir" "bin=$bin" "group=$group" "node=$node" "service=$service" \
        unshare --mount --net --pid --fork --kill-child --propagation private --mount-proc \
        bash "$here/cluster/first.sh"
    until_true 10 "the first process" first_of "$started"
    first_of "$started" >"$dir/first"
    ip link add "$cable" type veth peer name eth0 netns "$(cat "$dir/first")"
    ip addr add "$machine/30" dev "$cable"
    ip link set "$cable" up
}

# By whom the cluster's processes are held, once it has come so far.
first_of() { pgrep -P "$1" | head -n 1 | grep .; }

remember_tree() {
    shift
    remember tree "$@"
}

api_is_ready() { [ "$(kubectl get --raw /readyz)" = ok ]; }
node_is_ready() { kubectl get node node --no-headers | grep -q ' Ready'; }
runtime_is_ready() { inside ctr -a "$dir/containerd.sock" version; }

import_images() {
    local image
    until_true 20 containerd runtime_is_ready
    for image in "$dir"/images/*.tar; do
        inside ctr -a "$dir/containerd.sock" -n k8s.io images import "$image" >/dev/null
    done
}

# What pods are made of.
make_pod_images() {
    local tree architecture
    architecture=$(dpkg --print-architecture)
    make_images
    for tree in agent daemon pause; do mkdir -p "$dir/images/$tree"{,.d}; done
    # As the Containerfiles in deploy/kubernetes have it.
    install -D "$TESTKIT_PROGRAM" "$dir/images/agent/.agentkernel/agent"
    pack "$dir/images/agent" agentkernel-agent '"Entrypoint": ["/.agentkernel/agent"]'
    install -D -t "$dir/images/daemon/bin" "$TESTKIT_PROGRAM" "${TESTKIT_PROGRAM}d"
    mkdir -m 1777 "$dir/images/daemon/tmp"
    pack "$dir/images/daemon" agentkernel-daemon '"Entrypoint": ["/bin/agentkerneld"],
        "Env": ["PATH=/bin", "HOME=/tmp", "XDG_RUNTIME_DIR=/tmp"], "User": "1000:1000"'
    install -D "$(command -v busybox)" "$dir/images/pause/busybox"
    pack "$dir/images/pause" agentkernel-pause '"Entrypoint": ["/busybox", "sleep", "2147483647"]'
}

get_program() {
    [ -z "${TESTKIT_PROGRAM:-}" ] || return 0
    cd "$checkout"
    cargo build --release --quiet
    cargo build --release --quiet -p agentkernel-daemon
    TESTKIT_PROGRAM=$(realpath "${CARGO_TARGET_DIR:-target}"/*-linux-*/release/agentkernel)
    cd /
}

check_machine() {
    need ip unshare nsenter dpkg pgrep
    [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] ||
        skip "Kubernetes $version wants control groups of version 1, and this machine has version 2 only"
    unshare --mount --net --pid --fork true 2>/dev/null || skip "namespaces can't be made here"
    case $dir/ in
    # There, a cluster sees its own.
    /run/* | /var/run/* | /var/log/* | /var/lib/* | /sys/* | /proc/*) skip "a cluster can't be in $dir" ;;
    esac
    case $(stat -f -c %T "$(existing "$dir")") in
    overlayfs | tmpfs) skip "containers' layers can't be on the file system that $dir is on" ;;
    esac
}

existing() { if [ -e "$1" ]; then echo "$1"; else existing "$(dirname "$1")"; fi; }

up() {
    local version bin machine node
    find_built || skip "Kubernetes was not built: scripts/lanes/cluster.sh build"
    [ ! -e "$made" ] || take_down || { echo "what was there before is still in the way"; exit 1; }
    check_machine
    mkdir -p "$dir"/{log,images,pki,run,net.d,plugins}
    : >"$made"
    get_packages <<-PACKAGES
	etcd etcd-server
	containerd containerd
	runc runc
	/usr/lib/cni/bridge containernetworking-plugins
	/usr/share/doc/busybox-static busybox-static
	openssl openssl
	iptables iptables
	PACKAGES
    need etcd containerd ctr runc openssl iptables busybox
    [ -e /usr/lib/cni/bridge ] || skip "there are no plugins for containers' networks"
    get_program
    pick_addresses
    make_certificates
    write_settings
    start_first
    make_pod_images
    import_images
    until_true 60 "the API server" api_is_ready
    until_true 60 "the node" node_is_ready
    until_true 30 "the namespace" kubectl get serviceaccount default
    known KUBECONFIG "$KUBECONFIG"
    known KUBERNETES_AGENT_IMAGE localhost/agentkernel-agent:latest
    known TESTKIT_CLUSTER_IMAGE "$test_image"
    known TESTKIT_CLUSTER_GROUP "$group"
    known TESTKIT_PROGRAM "$TESTKIT_PROGRAM"
    known TESTKIT_KUBECTL "$bin/kubectl"
    rm -rf "$dir/images"
    mv "$dir/environment.part" "$dir/environment"
    echo "kubernetes: ready ($version, $(runc --version | head -n 1), in $SECONDS s)"
}

# Ends one of the cluster's programs, or has it again.
stop() {
    inside kill "$(cat "$dir/run/$1.pid")"
    while inside kill -0 "$(cat "$dir/run/$1.pid")" 2>/dev/null; do sleep 0.1; done
}
start_again() { inside setsid bash "$dir/run/$1" </dev/null >>"$dir/log/$1" 2>&1 & }

[ $# -ge 1 ] || usage
case $1/$# in
build/1 | built/1 | up/2 | down/2 | stop/3 | start/3) ;;
*) usage ;;
esac
if [ "$1" = built ]; then
    find_built || skip "Kubernetes was not built: scripts/lanes/cluster.sh build"
    echo "$version"
    exit
fi
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || skip "only root can bring a cluster up, and there is no sudo"
    [ "$1" != up ] || get_program
    exec sudo -n --preserve-env=XDG_CACHE_HOME,TESTKIT_PROGRAM bash "${BASH_SOURCE[0]}" "$@"
fi
[ $# = 1 ] || name_folders "$(realpath -m "$2")"
case $1 in
build) build ;;
up) up ;;
down) take_down ;;
stop) stop "$3" ;;
start) start_again "$3" ;;
esac
