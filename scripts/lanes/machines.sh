#!/usr/bin/env bash
# Runs a suite in machines that QEMU emulates on this machine, by a stand-in for Firecracker
# (crates/testkit/fakes/qemu-instead-of-firecracker): the agent boots as init of Debian's own kernel, finds
# its image on virtio's disks, and talks over vsock.
#
#   scripts/lanes/machines.sh [OPTION or FILTER...]
#
# which are the suite's; without any it tries each behaviour on one route, drawn by lot. All, by hand:
# scripts/lanes/machines.sh firecracker/. In the environment, KERNEL is the start of a version, such as
# 6.12, of a cloud kernel that this machine's apt has, or the path of a kernel that FIRECRACKER_KERNEL could
# name; without it, it is the one of the machine's own release. SUITE is `conformance` or `escape`; without
# it, the first. TESTKIT_PROGRAM may be an agentkernel with agentkerneld beside it, both stripped; else they
# are built.
#
# The exit status is 77, with the reason in the last line, where the lane can't run. The kernel is kept
# under XDG_CACHE_HOME.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agentkernel-machines-lane
work=$(mktemp -d)
suite=${SUITE:-conformance}
devices=
trap '[ -z "$devices" ] || kill "$devices"; rm -rf "$work"' EXIT

say() { printf '%s machines lane: %s\n' "$(date +%T)" "$*"; }

skip() {
    echo "$*"
    exit 77
}

. "$here/vm/kernels.sh"
. "$here/containers/images.sh"

# Puts a kernel for machines where everybody can read it; `version` is then its.
get_kernel() {
    local package tree=$work/tree
    if [ -e "${KERNEL:-}" ]; then
        version=$KERNEL
        cp -r "$KERNEL" "$work/kernel"
        return
    fi
    package=$(kernel_packages ${KERNEL:+"$KERNEL"} | tail -n 1)
    [ -n "$package" ] || skip "apt knows no kernel ${KERNEL:-of its own release}"
    version=${package#linux-image-}
    if [ ! -e "$cache/$package" ] || [ "$here/vm/kernels.sh" -nt "$cache/$package" ]; then
        say "fetching $package"
        mkdir -p "$tree" "$cache"
        unpack_kernel "$package"
        make_machine_kernel "$tree/machine"
        rm -rf "${cache:?}/$package"
        mv "$tree/machine" "$cache/$package"
        rm -rf "$tree"
    fi
    cp -r "$cache/$package" "$work/kernel"
}

# The stand-in, by the interpreter itself: what stands for it on some machines takes longer than all else.
get_stand_in() {
    local python name
    python=$(python3 -c 'import sys; print(sys.executable if sys.version_info >= (3, 10) else "")')
    [ -n "$python" ] || skip "python3 is older than 3.10"
    mkdir "$work/bin"
    for name in firecracker qemu-instead-of-firecracker vhost_vsock.py; do
        sed "1s,^#!.*,#!$python," "$checkout/crates/testkit/fakes/$name" >"$work/bin/$name"
    done
    chmod 755 "$work/bin"/*
    "$python" "$work/bin/vhost_vsock.py" "$work/bin/vhost-vsock" >"$work/ready" 2>"$work/wrong" &
    devices=$!
    until [ -s "$work/ready" ]; do
        kill -0 "$devices" 2>/dev/null || { cat "$work/wrong"; exit 1; }
        sleep 0.1
    done
}

# The small program as it is released: every machine unpacks it.
get_programs() {
    cd "$checkout"
    if [ -z "${TESTKIT_PROGRAM:-}" ]; then
        cargo build --release --quiet
        cargo build --release --quiet -p agentkernel-daemon
        TESTKIT_PROGRAM=$(echo "${CARGO_TARGET_DIR:-target}"/*-linux-*/release/agentkernel)
    fi
    cp "$TESTKIT_PROGRAM" "${TESTKIT_PROGRAM}d" "$work/bin"
}

main() {
    [ "$(uname -m)" = x86_64 ] || skip "the emulated machine is an x86-64 one only"
    [ -w /dev/kvm ] || skip "there is no /dev/kvm, without which agentkernel starts no machine, though QEMU needs none"
    command -v apt-get >/dev/null || skip "kernels come by apt-get, which is not there"
    install_tools <<-TOOLS
	qemu-system-x86_64 qemu-system-x86
	depmod kmod
	mke2fs e2fsprogs
	xz xz-utils
	zstd zstd
	python3 python3
	TOOLS
    chmod 755 "$work"
    umask 022
    get_kernel
    get_stand_in
    get_programs
    (dir=$work && make_images)
    say "THIS IS NOT FIRECRACKER. $(qemu-system-x86_64 --version | head -n 1) emulates the machines, without KVM."
    say "Tried are the images, Linux $version and the agent as its init, not Firecracker, KVM or snapshots."
    export FIRECRACKER_BIN=$work/bin/qemu-instead-of-firecracker FIRECRACKER_KERNEL=$work/kernel
    # The stand-in is no static program, and its machines can't be saved.
    export FIRECRACKER_JAIL=none FIRECRACKER_SNAPSHOTS=none
    export TESTKIT_ARCHIVE=$work/images/agentkernel-test.tar TESTKIT_PROGRAM=$work/bin/agentkernel
    export TESTKIT_PATIENCE=${TESTKIT_PATIENCE:-4}
    try "$@"
    # A device complains of a machine that breaks the protocol.
    if [ -s "$work/wrong" ]; then
        cat "$work/wrong"
        exit 1
    fi
}

try() {
    local again option options=()
    [ $# -gt 0 ] || set -- --one-route firecracker/
    cargo test --workspace --test "$suite" -- --slowest "$@" | tee "$work/said" && return
    # An emulated machine's time is not its own: what fails is tried once more, by itself.
    mapfile -t again < <(sed -n 's/^FAILED \([^:]*\):.*/\1/p' "$work/said")
    [ ${#again[@]} -gt 0 ] && [ ${#again[@]} -le 5 ] || exit 1
    echo "once more: ${again[*]}"
    # By the same options, which have a part in what is tried: nothing tried would pass.
    for option; do
        case $option in -*) options+=("$option") ;; esac
    done
    cargo test --workspace --test "$suite" -- "${options[@]}" "${again[@]}" | tee "$work/said"
    grep -q '^[1-9][0-9]* passed' "$work/said"
}

main "$@"
