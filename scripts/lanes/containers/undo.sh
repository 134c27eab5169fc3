# How containers.sh takes down what it has brought up. Each word that it has remembered is a function
# here, `undo_WORD`; they are called in reverse, each may find its work done already, and what can't
# be undone stays in the list and is told.

# When a process was started, which tells it from others with its number. Of a zombie nothing is left.
born() { sed 's/.*) //; /^Z/d' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20 || true; }

# The control groups of a name, at the top of each hierarchy.
control_groups() {
    local group
    for group in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
        [ ! -d "$group" ] || echo "$group"
    done
}

# The chains and rules of a table in which a word is found, as commands that would make them.
rules() { "$1" -w -t "$2" -S 2>/dev/null | grep -E -- "^-[AN].*($3)" || true; }

# Ends processes, first with TERM, and waits until they are gone. A zombie is gone.
end() {
    local signal pid left
    for signal in TERM KILL; do
        for pid; do kill -$signal "$pid" 2>/dev/null || true; done
        for _ in {1..100}; do
            left=0
            for pid; do
                case $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) in
                "" | Z*) ;;
                *) left=1 ;;
                esac
            done
            [ $left = 1 ] || return 0
            sleep 0.1
        done
    done
    return 1
}

undo_process() { [ "$(born "$1")" != "${2:-gone before it could be asked}" ] || end "$1"; }

# Removes containers, of a dockerd that was there before only those of our images, and the images.
undo_containers() {
    local images found
    case $1 in
    docker | docker-adopted)
        timeout 10 "${docker[@]}" version >/dev/null 2>&1 || return 0
        mapfile -t images < <("${docker[@]}" images -q --no-trunc \
            --filter 'reference=localhost/agentkernel-*' \
            --filter 'reference=127.0.0.1:*/agentkernel-*' | sort -u)
        if [ "$1" = docker ]; then
            found=$("${docker[@]}" ps -aq)
        else
            found=$(for image in "${images[@]}"; do
                "${docker[@]}" ps -aq --filter "ancestor=$image"
            done | sort -u)
        fi
        [ -z "$found" ] || xargs "${docker[@]}" rm -fv <<<"$found"
        [ ${#images[@]} = 0 ] || "${docker[@]}" rmi -f "${images[@]}"
        [ "$1" != docker ] || "${docker[@]}" network prune -f
        ;;
    podman-root) clear_podman "${as_root[@]}" ;;
    podman-user)
        clear_podman "${as_user[@]}"
        end_namespace "$(cat "$user_runtime/libpod/tmp/pause.pid" 2>/dev/null)"
        ;;
    esac >/dev/null
}

clear_podman() {
    local what
    command -v podman >/dev/null && [ -e "$dir/storage.conf" ] || return 0
    for what in 'pod rm -fa -t 0' 'rm -fa -t 0'; do
        # shellcheck disable=SC2086 # several words
        timeout 60 "$@" podman $what >/dev/null 2>&1 || true
    done
}

# Ends whatever is in the user namespace of a process, unless that is this one's.
end_namespace() {
    local namespace found
    namespace=$(readlink "/proc/${1:-none}/ns/user") || return 0
    [ "$namespace" != "$(readlink /proc/self/ns/user)" ] || return 0
    mapfile -t found < <(find /proc -mindepth 3 -maxdepth 3 -path '/proc/[0-9]*/ns/user' \
        -lname "${namespace//[\[\]]/?}" 2>/dev/null | cut -d/ -f3)
    [ ${#found[@]} = 0 ] || end "${found[@]}"
}

# Ends what an engine of ours has left running, and the containers that it watches over. It is known by
# the engine's folder among its arguments.
undo_strays() {
    local pid state runtime strays=()
    # A runtime knows containers whose engine has forgotten them.
    for state in /run/runc/* /run/crun/*; do
        runtime=$(basename "$(dirname "$state")")
        [ -d "$state" ] && grep -rqsF "$1" "$state" || continue
        "$runtime" delete --force "$(basename "$state")" || true
    done
    for pid in $(pgrep -f -- "$1" || true); do
        case $(basename "$(readlink "/proc/$pid/exe")") in
        conmon | containerd* | slirp4netns | rootlessport | aardvark-dns | dnsmasq | fuse-overlayfs)
            end_namespace "$pid"
            mapfile -t -O ${#strays[@]} strays < <(pgrep -P "$pid"; echo "$pid")
            ;;
        esac
    done
    [ ${#strays[@]} = 0 ] || end "${strays[@]}"
}

# Whoever else has come into a group meanwhile keeps it.
undo_group() {
    local group
    for group in $(control_groups "$1"); do
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
}

# Whether a container of another root's Podman has a network: it shares rules and addresses with ours.
others_use_podman() { [ -n "$(rules iptables nat 'NETAVARK-[0-9A-F]{13}')" ]; }

# A bridge with something on it is somebody's.
undo_interface() {
    ip link show "$1" >/dev/null 2>&1 || return 0
    [ -n "$(ip -o link show master "$1")" ] || ip link delete "$1"
}

docker_bridges() { ip -br link show type bridge | grep -oE '^br-[0-9a-f]{12}' | paste -sd ' ' || true; }

# Those of Docker's networks that were not there, if it could not do that itself.
undo_bridges() {
    local bridge
    for bridge in $(docker_bridges); do
        [[ " $* " == *" $bridge "* ]] || undo_interface "$bridge"
    done
}

undo_setting() { echo "$2" >"$1"; }

undo_policy() { iptables -w -P FORWARD "$1"; }

undo_rules() {
    local tool table found
    if [ "$1" = NETAVARK ] && others_use_podman; then return 0; fi
    for tool in iptables ip6tables; do
        command -v $tool >/dev/null || continue
        for table in filter nat; do
            found=$(rules $tool $table "$1")
            [ -n "$found" ] || continue
            # All at once, since a chain can't go before the rules that lead to it.
            {
                echo "*$table"
                sed -n 's/^-A/-D/p' <<<"$found"
                sed -n 's/^-N/-F/p' <<<"$found"
                sed -n 's/^-N/-X/p' <<<"$found"
                echo COMMIT
            } | $tool-restore -w --noflush
        done
    done
}

# Unmounts whatever is mounted at or below a path, the latest first.
unmount_below() {
    local point
    for point in $(awk -v top="$1" '$5 == top || index($5, top "/") == 1 { print $5 }' \
        /proc/self/mountinfo | tac); do
        umount "$point" 2>/dev/null || umount --lazy "$point" 2>/dev/null || true
    done
}

# Podman makes of /run/netns a mount. Who else has put a namespace there meanwhile keeps it.
undo_netns() {
    if [ -d /run/netns ] && [ -z "$(ls -A /run/netns)" ]; then
        unmount_below /run/netns
        rmdir /run/netns
    fi
}

# What lies outside of our folder goes file by file: somebody else may have put theirs beside it.
undo_file() { rm -f "$1"; }
undo_podman-file() { others_use_podman || rm -f "$1"; }
undo_folder() { rmdir "$1" 2>/dev/null || true; }

# What is ours as a whole.
undo_path() {
    unmount_below "$1"
    rm -rf --one-file-system "$1"
}

undo_mode() { [ ! -e "$2" ] || chmod "$1" "$2"; }

# By force, since whatever the suites have left running as that user would hold its name.
undo_user() { ! getent passwd "$1" >/dev/null || userdel --force "$1" 2>/dev/null; }

undo_user-group() { ! getent group "$1" >/dev/null || groupdel "$1"; }

undo_subuid() { ! getent passwd "$1" >/dev/null || usermod --del-subuids "$2" "$1"; }
undo_subgid() { ! getent passwd "$1" >/dev/null || usermod --del-subgids "$2" "$1"; }

# Undoes what a list remembers; what can't be undone stays in it, and is told.
undo_list() {
    local entries words i left=()
    [ -e "$1" ] || return 0
    mapfile -t entries <"$1"
    for ((i = ${#entries[@]} - 1; i >= 0; i--)); do
        read -ra words <<<"${entries[i]}"
        # In a condition, a function would go on after what fails in it.
        set +e
        (
            set -e
            "undo_${words[0]}" "${words[@]:1}"
        )
        [ $? = 0 ] || left=("${entries[i]}" "${left[@]}")
        set -e
    done
    [ ${#left[@]} -gt 0 ] || return 0
    printf '%s\n' "${left[@]}" >"$1.new"
    mv "$1.new" "$1"
    printf "can't be undone: %s\n" "${left[@]}"
    return 1
}

# Whether nothing runs any more of what was started for the lane in a folder: whoever had brought it up
# was killed, or the machine was started anew. One that has started nothing may still be wanted.
is_abandoned() {
    local word pid then found=1
    while read -r word pid then; do
        [ "$word" = process ] || continue
        [ "$(born "$pid")" != "${then:-gone before it could be asked}" ] || return 1
        found=0
    done <"$1/made"
    return $found
}

# Takes abandoned lanes down, which would else hold what all share.
take_abandoned_down() {
    local other
    for other in $(sort -u "$shared/lanes" 2>/dev/null); do
        [ "$other" != "$dir" ] && [ -e "$other/made" ] && is_abandoned "$other" || continue
        echo "$other: abandoned, so it is taken down"
        bash "$here/containers.sh" down "$other" || true
    done
}

# That the folder is ours as a whole, and goes with what is in it.
undo_whole() { :; }

# Takes down what is up in our folder, and what it has shared with others if it is the last.
take_down() {
    local ours=0 whole=0 other others=() part status=0
    if [ -e "$made" ]; then
        ours=1
        ! grep -qx whole "$made" || whole=1
        if ! undo_list "$made"; then
            [ $whole = 0 ] || grep -qx whole "$made" || sed -i 1iwhole "$made"
            return 1
        fi
    fi
    for other in $(sort -u "$shared/lanes" 2>/dev/null); do
        [ "$other" = "$dir" ] || [ ! -e "$other/made" ] || others+=("$other")
    done
    if [ ${#others[@]} -gt 0 ]; then
        printf '%s\n' "${others[@]}" >"$shared/lanes"
    elif undo_list "$shared/made"; then
        rm -rf "$shared"
    else
        status=1
    fi
    [ $ours = 1 ] || return $status
    for part in podman user; do unmount_below "$dir/$part"; done
    (cd "$dir" && rm -rf --one-file-system docker-client podman user registry images log ./*.conf \
        registry.yml podman.sock environment environment.part made)
    [ $whole = 0 ] || rm -rf --one-file-system "$dir"
    return $status
}
