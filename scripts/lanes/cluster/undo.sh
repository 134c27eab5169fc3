# How cluster.sh takes a cluster down, in words of ../containers/undo.sh and these.

# Makes the folders of control groups below which the cluster's are, as far as the machine has hierarchies.
make_groups() {
    local top file
    for top in /sys/fs/cgroup/*/; do
        [ -e "$top/cgroup.procs" ] || continue
        mkdir -p "$top$group"
        # It may begin without any.
        for file in cpus mems; do
            [ ! -e "$top/cpuset.$file" ] || cat "$top/cpuset.$file" >"$top$group/cpuset.$file"
        done
    done
}

# Kills the first process of the cluster, whose going takes all others along, and waits for that.
undo_tree() {
    local first
    [ "$(born "$1")" = "${2:-gone before it could be asked}" ] || return 0
    for first in $(pgrep -P "$1"); do kill -KILL "$first" 2>/dev/null || true; done
    end "$1"
}

# Removes the cluster's control groups, those too of a hierarchy that only it had mounted.
undo_groups() {
    local found tries
    for tries in {1..50}; do
        for found in $(control_groups "$1"); do
            find "$found" -depth -type d -exec rmdir {} \; 2>/dev/null || true
        done
        found=$(control_groups "$1")
        [ -n "$found" ] || break
        # What was killed may take a moment to leave them.
        sleep 0.1
    done
    [ -z "$found" ] || return 1
    # shellcheck disable=SC2016 # they are the inner shell's
    unshare --mount --propagation private bash -c '
        [ ! -d /sys/fs/cgroup/hugetlb ] || exit 0
        mount -t tmpfs tmpfs /mnt && mkdir /mnt/hugetlb &&
            mount -t cgroup -o hugetlb hugetlb /mnt/hugetlb 2>/dev/null || exit 0
        [ ! -d "/mnt/hugetlb/$1" ] || find "/mnt/hugetlb/$1" -depth -type d -exec rmdir {} \;
    ' bash "$1"
}

take_down() {
    [ -e "$made" ] || return 0
    undo_list "$made" || return 1
    (cd "$dir" && rm -rf --one-file-system log images pki run net.d plugins etcd containerd kubelet var \
        ./*.kubeconfig kubelet.yaml containerd.toml containerd.sock* first environment environment.part made)
    # Whoever made it before has something else in it.
    rmdir "$dir" 2>/dev/null || true
}
