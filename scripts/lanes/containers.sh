#!/usr/bin/env bash
# Brings real container engines up on a bare Debian machine, for the suites that need them, and takes
# them down again: Docker, Podman as root, Podman of an ordinary user, and a registry.
#
#   scripts/lanes/containers.sh up DIR      and then   . DIR/environment
#   scripts/lanes/containers.sh down DIR
#
# `up` prints a line for each, such as `docker: ready (20.10.24, runc)` or `podman rootless: skipped:
# WHY`, and takes what an `up` or a `down` that was cut short has left in DIR down first. The names in
# DIR/environment are those of what is ready and no others:
#
#   TESTKIT_IMAGE        what the suites' commands need, under one name in each engine; beside
#                                 it are localhost/agentkernel-empty and localhost/agentkernel-busybox
#   TESTKIT_REGISTRY     HOST:PORT, which serves the same as agentkernel-test:1, without TLS
#   TESTKIT_DOCKER       Docker's socket
#   TESTKIT_PODMAN_ROOT  the socket of root's Podman
#   TESTKIT_PODMAN_USER  the socket of user 23456's Podman; for podman's own command line,
#                                 ..._USER_RUNTIME_DIR, ..._USER_HOME and ..._USER_CONF are what that
#                                 user's XDG_RUNTIME_DIR, HOME and CONTAINERS_CONF must be
#   CONTAINERS_*CONF              settings with which root's podman sees what root's service sees
#
# `down` undoes what `up` did and nothing else: packages stay, and so does a dockerd that was there
# before. What is to be undone is written down before it is done, so it needs no `up` that ended well.
# Several may be up at once in folders of their own. They share dockerd, its images, the ordinary
# user's name and settings of the machine, which stay until the last of them goes down. One of which
# nothing runs any more is taken down by the next `up`.
#
# The exit status is 0 if all are up, 77 if one can't be had here, with the reason in the last line,
# and 1 if something failed. In every case the others are up. It needs root, or sudo.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/containers/images.sh"
. "$here/containers/start.sh"
. "$here/containers/undo.sh"

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022
docker_socket=/var/run/docker.sock
# What all that are up on this machine share, and who they are.
shared=/var/tmp/agentkernel-containers
# The suites' ordinary user: `ORDINARY` in crates/testkit/src/subject.rs.
ordinary=23456

usage() {
    echo "usage: scripts/lanes/containers.sh up|down DIR"
    exit 2
}

# Where everything of one `up` is.
name_folders() {
    dir=$1
    made=$dir/made
    user_home=$dir/user/home
    user_runtime=$dir/user/run
    # For both of Podman's users; where they keep their state is another matter for each.
    podman_settings=(
        "CONTAINERS_STORAGE_CONF=$dir/storage.conf" "CONTAINERS_REGISTRIES_CONF=$dir/registries.conf"
    )
    # Whatever a caller's environment says of engines is not meant for these.
    as_root=(
        env -i "PATH=$PATH" HOME=/root "${podman_settings[@]}" "CONTAINERS_CONF=$dir/containers.conf"
    )
    as_user=(
        setpriv --reuid $ordinary --regid $ordinary --clear-groups
        env -i "PATH=$PATH" "HOME=$user_home" "XDG_RUNTIME_DIR=$user_runtime"
        "${podman_settings[@]}" "CONTAINERS_CONF=$dir/user-containers.conf"
    )
    docker=(env -i "PATH=$PATH" "DOCKER_CONFIG=$dir/docker-client" docker -H "unix://$docker_socket")
}

# The same of what is to be undone when nobody is left that is up.
remember_shared() { grep -qxF "$*" "$shared/made" 2>/dev/null || echo "$*" >>"$shared/made"; }

# Of each file or folder, by a word for what it is, that it is to be removed, unless it is there already.
remember_new() {
    local word=$1 path
    shift
    for path; do [ -e "$path" ] || remember_shared "$word" "$path"; done
}

# Of each name, that a control group of that name is to be removed, unless there is one.
remember_groups() {
    local name
    for name; do
        [ -n "$(control_groups "$name")" ] || remember_shared group "$name"
    done
}

# That forwarding is to be as it was: engines switch it on.
remember_forwarding() {
    local file=/proc/sys/net/ipv4/ip_forward
    remember_shared setting $file "$(cat $file)"
}

# That rules of the packet filter in which a word is found are to be removed, unless there are some.
remember_rules() { [ -n "$(rules iptables filter "$1")" ] || remember_shared rules "$1"; }

# That an interface is to be removed, unless it is there already.
remember_interface() { ip link show "$1" >/dev/null 2>&1 || remember_shared interface "$1"; }

# What root's Podman and skopeo write where no setting can lead them elsewhere.
remember_traces() {
    remember_new folder /etc/cni /etc/cni/net.d /run/containers /run/containers/networks \
        /run/containers/networks/aardvark-dns /var/cache/containers /var/lib/containers \
        /var/lib/containers/cache
    remember_new podman-file /etc/cni/net.d/cni.lock /var/cache/containers/short-name-aliases.conf.lock \
        /var/lib/containers/cache/blob-info-cache-v1.boltdb /run/containers/networks/ipam.db \
        /run/containers/networks/aardvark.lock /run/containers/networks/aardvark-dns/aardvark.pid
}

# A registry on a port that the kernel picks, so that none has to be guessed.
up_registry() {
    local port
    need docker-registry
    mkdir -p "$dir/registry"
    cat >"$dir/registry.yml" <<-END
	version: 0.1
	storage: {filesystem: {rootdirectory: $dir/registry}, delete: {enabled: true}}
	http: {addr: "127.0.0.1:0"}
	log: {accesslog: {disabled: true}}
	END
    start remember "$dir/log/registry" env -i "PATH=$PATH" docker-registry serve "$dir/registry.yml"
    await "$dir/log/registry" grep -q 'listening on 127' "$dir/log/registry"
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$dir/log/registry")
    # Docker takes whatever is on 127.0.0.1 without TLS; Podman and skopeo have to be told.
    printf '[[registry]]\nlocation = "127.0.0.1:%s"\ninsecure = true\n' "$port" >>"$dir/registries.conf"
    need skopeo
    "${as_root[@]}" skopeo copy --quiet --dest-tls-verify=false "docker-archive:$dir/images/agentkernel-test.tar" \
        "docker://127.0.0.1:$port/agentkernel-test:1"
    known TESTKIT_REGISTRY "127.0.0.1:$port"
    echo "127.0.0.1:$port"
}

docker_answers() { timeout 10 "${docker[@]}" version; }

up_docker() {
    local image policy
    need docker
    if docker_answers >/dev/null 2>&1; then
        remember_shared containers docker-adopted
    else
        need dockerd iptables ip
        remember_new folder /etc/docker /run/docker /run/docker/plugins /run/containerd /run/containerd/s
        remember_new file /etc/docker/key.json $docker_socket
        remember_groups docker
        remember_forwarding
        # Docker forbids it for all others when it switches it on.
        policy=$(iptables -w -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p') || true
        [ -z "$policy" ] || remember_shared policy "$policy"
        remember_rules 'DOCKER|docker0|br-[0-9a-f]{12}|-s.([0-9.]+/32).-d.\2.*MASQUERADE'
        remember_shared bridges "$(docker_bridges)"
        remember_interface docker0
        # Others may come to use it, so it stays until the last goes. In a folder of its own it neither
        # minds nor changes what another dockerd has left.
        local home=$shared/docker
        remember_shared path "$home"
        mkdir -p "$home"
        remember_shared strays "$home/"
        start remember_shared "$home/log" env -i "PATH=$PATH" dockerd -H "unix://$docker_socket" \
            --data-root "$home/data" --exec-root "$home/run" --pidfile "$home/pid"
        await "$home/log" docker_answers
        remember_shared containers docker
    fi
    for image in "$dir"/images/*.tar; do "${docker[@]}" load --quiet --input "$image"; done
    timeout 60 "${docker[@]}" run --rm --network none "$test_image" true || skip "it can't run a container"
    known TESTKIT_DOCKER "$docker_socket"
    "${docker[@]}" info --format '{{.ServerVersion}}, {{.DefaultRuntime}}'
}

# Settings that Podman needs where it is not at home. In files of our own, so that /etc stays as it is.
write_podman_settings() {
    local files processes most
    files=$(ulimit -Hn)
    processes=$(ulimit -Hu)
    files=${files/unlimited/1048576}
    # Podman lowers its own to this, and can't raise it again.
    most=$(cat /proc/sys/kernel/pid_max)
    if [ "$processes" = unlimited ] || [ "$processes" -gt "$most" ]; then processes=$most; fi
    cat >"$dir/user-containers.conf" <<-END
	[containers]
	# Podman asks for more than what a machine may allow even root, who may lack the right to ask.
	default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
	[engine]
	# There may be neither systemd nor its journal.
	cgroup_manager = "cgroupfs"
	events_logger = "file"
	END
    # Beside an empty version 2, crun wants every controller of version 1 mounted, hugetlb too; to mount
    # that would change the machine for all others, and runc does without.
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] ||
        echo 'runtime = "runc"' >>"$dir/user-containers.conf"
    # Root's is kept apart from what root does with Podman otherwise, so that both can come and go.
    {
        cat "$dir/user-containers.conf"
        echo "tmp_dir = \"$dir/podman/tmp\""
        printf '[network]\nnetwork_config_dir = "%s"\n' "$dir/podman/networks"
    } >"$dir/containers.conf"
    cat >"$dir/storage.conf" <<-END
	[storage]
	driver = "overlay"
	graphroot = "$dir/podman/storage"
	runroot = "$dir/podman/run"
	rootless_storage_path = "$dir/user/storage"
	END
    echo 'unqualified-search-registries = []' >"$dir/registries.conf"
    known CONTAINERS_CONF "$dir/containers.conf"
    local setting
    for setting in "${podman_settings[@]}"; do known "${setting%%=*}" "${setting#*=}"; done
}

# Starts a Podman service for whoever the further words make one, fills it, and tries it.
up_podman() {
    local whose=$1 log=$dir/log/$1 state=$2 socket=$3 image remote
    shift 3
    remember strays "$state/"
    remote=("${as_root[@]}" podman --url "unix://$socket")
    # Where it is started it leaves a file, `oom`, when memory runs out in a container.
    start remember "$log" env -C "$state" "$@" podman system service -t 0 "unix://$socket"
    remember containers "$whose"
    await "$log" "${remote[@]}" version
    for image in "$dir"/images/*.tar; do
        "$@" podman load --quiet --input "$image" || skip "it can't load an image"
    done
    timeout 60 "${remote[@]}" run --rm --network none "$test_image" true ||
        skip "it can't run a container"
    "$@" podman info --format '{{.Version.Version}}, {{.Host.OCIRuntime.Name}}'
}

up_podman_root() {
    need podman iptables ip
    remember_new folder /run/crun /run/runc
    [ -e /run/netns ] || remember_shared netns
    remember_groups libpod_parent
    remember_forwarding
    remember_rules NETAVARK
    remember_interface podman0
    remember_interface cni-podman0
    up_podman podman-root "$dir/podman" "$dir/podman.sock" "${as_root[@]}"
    known TESTKIT_PODMAN_ROOT "$dir/podman.sock"
}

# A range of numbers after all that the file has given away.
free_range() {
    awk -F: -v count=65536 '
        BEGIN { first = 100000 }
        $2 + $3 > first { first = $2 + $3 }
        END { print first "-" first + count - 1 }' "$1"
}

# Gives the ordinary user what Podman asks of one: a name, and further users and groups.
make_user() {
    local name=agentkernel-test file flag
    touch /etc/subuid /etc/subgid
    if getent passwd $ordinary >/dev/null; then
        name=$(getent passwd $ordinary | cut -d: -f1)
    else
        ! getent passwd $name >/dev/null || skip "another user is called $name"
        remember_new file /etc/subuid- /etc/subgid- /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow-
        if ! getent group $ordinary >/dev/null; then
            ! getent group $name >/dev/null || skip "another group is called $name"
            remember_shared user-group $name
            groupadd --gid $ordinary $name
        fi
        remember_shared user $name
        useradd --uid $ordinary --gid $ordinary --no-log-init --no-create-home \
            --home-dir "$user_home" --shell /bin/sh $name
    fi
    for file in uid gid; do
        ! grep -qE "^($name|$ordinary):" /etc/sub$file || continue
        flag=$(free_range /etc/sub$file)
        remember_shared sub${file} "$name" "$flag"
        usermod "--add-sub${file}s" "$flag" "$name"
    done
}

up_podman_user() {
    local socket=$user_runtime/podman/podman.sock
    need podman setpriv newuidmap useradd
    [ -u "$(command -v newuidmap)" ] || getcap "$(command -v newuidmap)" 2>/dev/null | grep -q . ||
        skip "newuidmap may not map users"
    make_user
    mkdir -p "$user_home" "$user_runtime/podman" "$dir/user/storage"
    chown -R $ordinary:$ordinary "$dir/user"
    chmod 700 "$user_runtime"
    "${as_user[@]}" test -r "$dir/containers.conf" ||
        skip "user $ordinary can't get into $dir, which some folder on its way forbids"
    "${as_user[@]}" unshare --user true 2>/dev/null || skip "an ordinary user can't make a user namespace"
    # Where there is no udev they are root's alone; elsewhere everybody may open them. slirp4netns,
    # which makes a network for containers, needs the first, and fuse-overlayfs the other.
    local device
    for device in /dev/net/tun /dev/fuse; do
        if [ -c $device ] && ! "${as_user[@]}" sh -c ": <>$device" 2>/dev/null; then
            remember_shared mode "$(stat -c %a "$device")" $device
            chmod 666 $device
        fi
    done
    up_podman podman-user "$dir/user" "$socket" "${as_user[@]}"
    known TESTKIT_PODMAN_USER "$socket"
    known TESTKIT_PODMAN_USER_RUNTIME_DIR "$user_runtime"
    known TESTKIT_PODMAN_USER_HOME "$user_home"
    known TESTKIT_PODMAN_USER_CONF "$dir/user-containers.conf"
}

# Runs a function that brings an engine up, and says what came of it. The last line of what it says is
# how the engine is, or why there is none.
bring() {
    local name=$1 status said
    # In a condition, the function would go on after what fails in it.
    set +e
    (
        set -e
        "$2"
    ) >"$dir/log/said" 2>&1
    status=$?
    set -e
    said=$(tail -n 1 "$dir/log/said")
    case $status in
    0) echo "$name: ready ($said)" ;;
    77)
        # What came before the reason may be its own.
        said+=$(sed '$d' "$dir/log/said" | tail -n 1 | sed 's/^/: /' | cut -c 1-300)
        echo "$name: skipped: $said"
        reason+="${reason:+; }$name: $said"
        ;;
    *)
        echo "$name: failed with $status: $said"
        failed=1
        ;;
    esac
}

up() {
    local failed=0 reason=""
    take_abandoned_down
    [ ! -e "$made" ] || take_down || { echo "what was there before is still in the way"; exit 1; }
    if [ -d "$dir" ]; then
        # Everybody may go through, to what is theirs.
        remember mode "$(stat -c %a "$dir")" "$dir"
        chmod a+x "$dir"
    else
        mkdir -p "$dir"
        remember whole
    fi
    echo "$dir" >>"$shared/lanes"
    mkdir -p "$dir"/{log,docker-client,podman/tmp,podman/networks}
    get_packages <<-PACKAGES
	dockerd docker.io
	podman podman
	crun crun
	runc runc
	/usr/lib/podman/netavark netavark
	/usr/lib/podman/aardvark-dns aardvark-dns
	skopeo skopeo
	docker-registry docker-registry
	/usr/share/doc/busybox-static busybox-static
	newuidmap uidmap
	slirp4netns slirp4netns
	fuse-overlayfs fuse-overlayfs
	catatonit catatonit
	iptables iptables
	ip iproute2
	ps procps
	PACKAGES
    need dpkg ldd
    write_podman_settings
    make_images
    remember_traces
    known TESTKIT_IMAGE "$test_image"
    bring registry up_registry
    bring docker up_docker
    bring podman up_podman_root
    bring 'podman rootless' up_podman_user
    mv "$dir/environment.part" "$dir/environment"
    [ $failed = 0 ] || exit 1
    [ -z "$reason" ] || skip "$reason"
}

[ $# = 2 ] || usage
case $2 in
*[!A-Za-z0-9/._-]*) skip "a folder of such a name is more than engines can stand: $2" ;;
esac
name_folders "$(realpath -m "$2")"
# A socket's path has at most 107 bytes, and Docker puts some below this.
[ ${#dir} -le 60 ] || skip "the folder's name is too long for the sockets in it: $dir"
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || skip "only root can start engines, and there is no sudo"
    exec sudo -n bash "${BASH_SOURCE[0]}" "$@"
fi
# One at a time, or two would both find that nobody has made what they share.
if [ -z "${CONTAINERS_LOCKED:-}" ]; then
    need flock
    export CONTAINERS_LOCKED=1
    exec flock --close /run bash "${BASH_SOURCE[0]}" "$@"
fi
# Who is called from here may not be allowed to be where the caller is.
cd /
mkdir -p -m 700 "$shared"
[ -O "$shared" ] && [ ! -L "$shared" ] || skip "$shared is somebody else's"
case $1 in
up) up ;;
down) take_down ;;
*) usage ;;
esac
