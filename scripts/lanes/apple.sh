#!/usr/bin/env bash
# Puts a stand-in for Apple's `container` program, and images for it, into a folder, for the suites that
# need it: the real one is for macOS alone.
#
#   scripts/lanes/apple.sh up DIR      and then   . DIR/environment
#   scripts/lanes/apple.sh down DIR
#
# The names in DIR/environment are:
#
#   TESTKIT_APPLE   the folder of the program, which the suites put on the PATH
#   TESTKIT_IMAGE   what the suites' commands need; beside it are localhost/agentkernel-empty and
#                   localhost/agentkernel-busybox
#
# `down` ends the program's services and what runs in its containers, and removes the folder.
#
# The exit status is 0 if it is up, and 77 if it can't be had here, with the reason in the last line. It
# needs root, since it makes namespaces as a container's process 1 has them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/containers/images.sh"

skip() {
    echo "apple: skipped: $*"
    exit 77
}

usage() {
    echo "usage: scripts/lanes/apple.sh up|down DIR"
    exit 2
}

# Makes a tree the image of a name.
place() {
    local image="$dir/images/localhost%$2@latest"
    mkdir -p "$image"
    mv "$1" "$image/rootfs"
    echo "{$3}" >"$image/config.json"
}

up() {
    local work=$dir/work applet
    local settings='"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["sh"]'
    [ "$(id -u)" = 0 ] || skip "it takes root"
    for tool in python3 dpkg ldd ip; do command -v "$tool" >/dev/null || skip "there is no $tool"; done
    mkdir -p "$dir/bin" "$work"/{test,busybox,empty}
    # Its state is root's; who else runs it is refused there.
    # By the interpreter itself: what stands for it on some machines takes longer than all else.
    sed "1s,.*,#!$(python3 -c 'import sys; print(sys.executable)')," \
        "$here/../../crates/testkit/fakes/container" >"$dir/bin/container"
    chmod 755 "$dir/bin/container"
    copy_programs "$work/test" "${test_packages[@]}"
    furnish "$work/test"
    place "$work/test" agentkernel-test "$settings"
    if command -v busybox >/dev/null; then
        mkdir "$work/busybox/bin"
        cp --dereference "$(command -v busybox)" "$work/busybox/bin/busybox"
        for applet in $(busybox --list); do
            [ "$applet" = busybox ] || ln -s busybox "$work/busybox/bin/$applet"
        done
        furnish "$work/busybox"
        place "$work/busybox" agentkernel-busybox "$settings"
    fi
    place "$work/empty" agentkernel-empty ""
    rm -rf "$work"
    setsid "$dir/bin/container" fake-services </dev/null >"$dir/services.log" 2>&1 &
    echo $! >"$dir/services.pid"
    for _ in {1..100}; do
        if grep -q ready "$dir/services.log"; then break; fi
        sleep 0.1
    done
    {
        echo "export TESTKIT_APPLE=$dir/bin"
        echo "export TESTKIT_IMAGE=$test_image"
    } >"$dir/environment"
    echo "apple: ready (a stand-in for container $("$dir/bin/container" --version | cut -d' ' -f4))"
}

down() {
    local name
    if [ -x "$dir/bin/container" ]; then
        for name in $("$dir/bin/container" list --all --quiet); do
            "$dir/bin/container" delete --force "$name" >/dev/null
        done
    fi
    [ ! -f "$dir/services.pid" ] || kill "$(cat "$dir/services.pid")" 2>/dev/null || true
    [ ! -x "$dir/bin/container" ] || "$dir/bin/container" fake-sweep
    rm -rf "$dir"
}

[ $# = 2 ] || usage
umask 022
dir=$2
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
case $1 in
up) up ;;
down) down ;;
*) usage ;;
esac
