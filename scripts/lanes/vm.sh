#!/usr/bin/env bash
# Runs agentkernel's suites on stock Debian kernels, in emulated machines: pure control groups of
# version 2, as root, as an ordinary user with and without a delegated group, and with user
# namespaces switched off. The machine has AMD's virtualisation, so that micro-VMs run in it.
#
#   scripts/lanes/vm.sh [KERNEL...]
#
# KERNEL is the start of a version, such as 6.12, or `all` for every cloud kernel that this
# machine's apt has; without any, it is the one of the machine's own release. In the environment:
#
#   VM_FILTER    what of the suites to run, as their command line takes it; nothing is everything
#   VM_ONLY      which of the guest's parts to run: conformance delegated escape switches
#                hyperlight firecracker
#   FIRECRACKER_BIN  a firecracker, if there is none on the PATH: without one that part is left out
#   VM_DEADLINE  seconds that a guest has (540); one that says nothing for 180 of them is hung
#   VM_SMP, VM_MEMORY  processors (2) and MiB (3072, with a firecracker 6144) of a guest
#   VM_SHELL     set: a shell instead of the suites
#
# The exit status is 0 if nothing failed, 1 if something did, and 77, with the reason in the last
# line, where the lane can't run.
#
# Whatever takes long is kept under XDG_CACHE_HOME: unpacked kernels, and a minimal Debian as a
# disk image, which guests never write to. A cold run needs root, or sudo, for apt and debootstrap.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agentkernel-vm-lane
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$work"' EXIT

say() { printf '%s vm lane: %s\n' "$(date +%T)" "$*"; }

skip() {
    echo "$*"
    exit 77
}

. "$here/vm/kernels.sh"

get_tools() {
    # A busybox that needs libraries is of no use in an initramfs.
    local more=()
    [ -e /usr/share/doc/busybox-static ] || more=(busybox-static)
    install_tools "${more[@]}" <<-TOOLS
	qemu-system-x86_64 qemu-system-x86
	busybox busybox-static
	debootstrap debootstrap
	depmod kmod
	mke2fs e2fsprogs
	xz xz-utils
	zstd zstd
	python3 python3
	cc gcc
	TOOLS
}

# Unpacks the kernel of a package, and packs the initramfs that finds the guest's root for it.
get_kernel() {
    local package=$1 version=${1#linux-image-} dir=$cache/$1 tree=$work/$1
    # Whatever says how it is packed may have changed.
    [ -e "$dir/initramfs" ] && [ -e "$dir/machine.ext4" ] && [ ! "$here/vm/init.sh" -nt "$dir/initramfs" ] &&
        [ ! "$here/vm.sh" -nt "$dir/initramfs" ] && [ ! "$here/vm/kernels.sh" -nt "$dir/initramfs" ] && return
    say "fetching $package"
    mkdir -p "$tree/root/bin" "$tree/root/modules" "$dir"
    unpack_kernel "$package"
    get_modules "$tree/root/modules" virtio_pci virtio_blk virtio_console overlay kvm_amd
    # The same kernel for machines in the machine.
    make_machine_kernel "$tree/machine"
    mke2fs -q -t ext4 -d "$tree/machine" "$dir/machine.ext4" 128M
    cp "$(command -v busybox)" "$tree/root/bin/busybox"
    install -m 755 "$here/vm/init.sh" "$tree/root/init"
    cp "$tree/kernel/boot/vmlinuz-$version" "$dir/vmlinuz"
    (cd "$tree/root" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$dir/initramfs.part"
    mv "$dir/initramfs.part" "$dir/initramfs"
    rm -rf "$tree"
}

# A minimal Debian as a disk image, of this machine's own release and from where it has that.
get_root() {
    [ -e "$cache/root.ext4" ] && return
    local suite mirror tree=$work/debian
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # the words are apt's to fill in
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        sed -n "s/^$suite //p" | head -n 1)
    say "making a root file system of $suite"
    as_root debootstrap --variant=minbase --include=libcap2-bin,procps \
        "$suite" "$tree" "$mirror" >"$work/debootstrap.log" ||
        { tail "$work/debootstrap.log"; skip "debootstrap failed"; }
    as_root rm -rf "$tree/var/cache/apt" "$tree/var/lib/apt/lists" "$tree/usr/share/doc"
    as_root mkdir -p "$tree/lane" "$tree/var/cache/apt"
    as_root mke2fs -q -t ext4 -d "$tree" "$cache/root.ext4.part" 1500M
    as_root chown "$(id -u)" "$cache/root.ext4.part"
    mv "$cache/root.ext4.part" "$cache/root.ext4"
    as_root rm -rf "$tree"
}

# Builds the suites and packs them, with what the guest does, into a disk image. The suites wait for the
# program most of the time, so only that is worth the minutes that an optimised build takes.
pack_programs() {
    local lane=$work/lane built built_at suite program
    mkdir -p "$lane"
    say "building the suites"
    built=$(cd "$checkout" && cargo test --workspace --no-run --test conformance --test escape 2>&1) ||
        { echo "$built" >&2; exit 1; }
    (cd "$checkout" && cargo build --release --quiet &&
        cargo build --release --quiet -p agentkernel-daemon)
    for suite in conformance escape; do
        built_at=$(sed -n "s/^ *Executable tests\/$suite.rs (\(.*\))$/\1/p" <<<"$built")
        case $built_at in /*) ;; *) built_at=$checkout/$built_at ;; esac
        cp "$built_at" "$lane/$suite"
    done
    # The suites look for the program where cargo has put it, and will find it there in the guest.
    built_at=$(dirname "$(dirname "$built_at")")
    program=$(dirname "$built_at")/release/agentkernel
    cp "$program" "$lane/agentkernel"
    cp "${program}d" "$lane/agentkerneld"
    cp "$checkout"/examples/wasm/*.wat "$lane"
    # A guest has no network.
    if XDG_CACHE_HOME=$cache AGENTKERNEL=true "$checkout/examples/wasm/quickjs.sh"; then
        mkdir "$lane/cache"
        cp "$checkout/examples/wasm/quickjs.sh" "$lane"
        cp -r "$cache/agentkernel-examples" "$lane/cache"
    else
        say "the JavaScript engine can't be fetched, so no guest runs it"
    fi
    built_at=$built_at/agentkernel
    echo "$built_at" >"$lane/built-at"
    strip "$lane/conformance" "$lane/escape"
    cc -std=gnu11 -D_GNU_SOURCE -O1 -static -o "$lane/probe" "$checkout"/crates/testkit/probes/*.c
    install -m 755 "$here/vm/guest.sh" "$lane/guest.sh"
    printf '%s\n' "${VM_FILTER:-}" >"$lane/filter"
    printf '%s\n' "${VM_ONLY:-conformance delegated escape switches hyperlight firecracker}" >"$lane/parts"
    ! wants firecracker || pack_firecracker "$lane"
    [ -z "${VM_SHELL:-}" ] || touch "$lane/shell"
    PATH=$PATH:/usr/sbin:/sbin mke2fs -q -t ext4 -d "$lane" "$work/lane.ext4" 384M
}

wants() { grep -qw "$1" <<<"${VM_ONLY:-firecracker}"; }

# Firecracker is no package of anybody's, so it is used where somebody has put it.
pack_firecracker() {
    local lane=$1 program=${FIRECRACKER_BIN:-$(command -v firecracker || true)}
    if [ -z "$program" ]; then
        say "NO FIRECRACKER: neither FIRECRACKER_BIN nor the PATH has one; nothing is run in micro-VMs of it"
        return
    fi
    cp "$program" "$lane/firecracker"
    (
        . "$here/containers/images.sh"
        dir=$work
        make_images
    )
    mv "$work/images/agentkernel-test.tar" "$lane/test.tar"
    rm -rf "$work/images"
}

# Boots a guest, shows what it says, and returns 0 if it said that nothing failed, and 2 if it did
# not get to its end.
run_guest() {
    local dir=$cache/$1 log=$work/$1.log memory=3072
    # A machine in the machine has memory of its own.
    [ ! -e "$work/lane/firecracker" ] || memory=6144
    # What goes wrong is told with where it does, and an interrupt that nobody expects ends the guest so.
    local kernel_arguments="console=ttyS0 loglevel=5 unknown_nmi_panic panic=-1 reboot=t nokaslr
        mitigations=off random.trust_cpu=on"
    local machine=(
        # QEMU 7.2 may leave the flags of a 16-byte exchange wrong, of which kernels die now and then.
        -M q35 -accel 'tcg,thread=multi,tb-size=512' -cpu max,-cx16
        -smp "${VM_SMP:-2}" -m "${VM_MEMORY:-$memory}"
        -kernel "$dir/vmlinuz" -initrd "$dir/initramfs"
        -append "${kernel_arguments//$'\n'/ }"
        -drive "file=$cache/root.ext4,format=raw,if=virtio,snapshot=on"
        -drive "file=$work/lane.ext4,format=raw,if=virtio,readonly=on"
        -drive "file=$dir/machine.ext4,format=raw,if=virtio,readonly=on"
        -nic none -no-reboot -display none -pidfile "$work/pid"
        -serial "file:$work/console"
        -device virtio-serial-pci -chardev stdio,id=lane -device virtconsole,chardev=lane
    )
    say "booting $1"
    if [ -n "${VM_SHELL:-}" ]; then
        qemu-system-x86_64 "${machine[@]}" -monitor none
        return
    fi
    rm -f "$work"/{pid,monitor.in,monitor.out}
    mkfifo "$work/monitor.in" "$work/monitor.out"
    : >"$log"
    qemu-system-x86_64 "${machine[@]}" -monitor "pipe:$work/monitor" </dev/null |
        sed -u 's/\r$//' | tee "$log" &
    watch_guest "$log"
    wait $! || true
    grep -q '^lane: nothing failed$' "$log" && return
    if ! grep -q '^lane: ' "$log"; then
        say "the guest did not get to its end; the last of its console:"
        tail -n 60 "$work/console"
        return 2
    fi
    return 1
}

# Ends a guest whose time is over, or that has said nothing for longer than any test takes. Its kernel first
# tells on its console what its processors are at, by an interrupt that nothing holds off. `took` is then
# what the emulator has had of this machine's processors, in seconds.
watch_guest() {
    local log=$1 start=$SECONDS said=$SECONDS size=0 now emulator='' why=''
    took=0
    until [ -s "$work/pid" ] || ((SECONDS - start > 20)); do sleep 1; done
    emulator=$(cat "$work/pid" 2>/dev/null) || return 0
    while now=$(awk '{ print int(($14 + $15) / 100) }' "/proc/$emulator/stat" 2>/dev/null); do
        took=$now
        now=$(stat -c %s "$log")
        [ "$now" = "$size" ] || { size=$now said=$SECONDS; }
        ((SECONDS - said <= 180)) || why="has said nothing for 180 s"
        ((SECONDS - start <= ${VM_DEADLINE:-540})) || why="was not done after ${VM_DEADLINE:-540} s"
        if [ -n "$why" ]; then
            say "the guest $why, with $took s of this machine's processors"
            echo nmi 1<>"$work/monitor.in"
            sleep 10
            kill -KILL "$emulator" 2>/dev/null || true
            return 0
        fi
        sleep 2
    done
}

main() {
    local kernels kernel start ended status=0
    [ "$(uname -m)" = x86_64 ] || skip "the emulated machine is an x86-64 one only"
    command -v apt-get >/dev/null || skip "kernels come by apt-get, which is not there"
    mkdir -p "$cache"
    get_tools
    kernels=$(kernel_packages "$@")
    [ -n "$kernels" ] || skip "apt knows no kernel ${*:-of its own release}"
    for kernel in $kernels; do get_kernel "$kernel"; done
    get_root
    pack_programs
    for kernel in $kernels; do
        start=$SECONDS
        ended=0
        run_guest "$kernel" || ended=$?
        # An emulator can lose a guest; what loses it twice is ours.
        if [ "$ended" = 2 ]; then
            ended=0
            run_guest "$kernel" || ended=$?
        fi
        [ "$ended" = 0 ] || status=1
        say "$kernel took $((SECONDS - start)) s, and of this machine's processors $took s"
        sed -n 's/^[^ ]*: [0-9]* passed, .*/    &/p' "$work/$kernel.log"
    done
    return $status
}

main "$@"
exit
