# What the lanes of emulated machines share: tools, and kernels out of the packages of this machine's apt.
# Whoever has this defines `skip`, and names this folder's parent in `here`.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs what is missing of the tools that are read, each with the package that has it, and the packages
# named besides.
install_tools() {
    local missing=("$@") tool package
    while read -r tool package; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -qq || skip "missing, and apt-get update failed: ${missing[*]}"
    as_root apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
        skip "can't be installed: ${missing[*]}"
}

# The kernel packages, newest of each generation, that apt knows and the arguments pick.
kernel_packages() {
    local meta package version wanted own=linux-image-cloud-amd64
    for meta in $(apt-cache pkgnames linux-image- | grep -E '^linux-image-([0-9.]+-)?cloud-amd64$'); do
        package=$(apt-cache show --no-all-versions "$meta" |
            sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
        version=${package#linux-image-}
        if [ $# = 0 ] && [ "$meta" = $own ]; then echo "$package"; fi
        for wanted; do
            case $wanted:$version in
            "all:$version" | "$version:$version" | "$wanted:$wanted".* | "$wanted:$wanted"-*)
                echo "$package"
                ;;
            esac
        done
    done | sort -uV
}

# Puts modules of the kernel $version in $tree, and those that they need, into a folder, and their order.
get_modules() {
    local folder=$1 module
    shift
    modprobe -d "$tree/kernel" -S "$version" --show-depends -a "$@" |
        sed -n 's/^insmod //p' | awk '!seen[$0]++' | while read -r module; do
        case $module in
        *.xz) xz -dc "$module" >"$folder/$(basename "${module%.xz}")" ;;
        *) cp "$module" "$folder/" ;;
        esac
        basename "${module%.xz}" >>"$folder/order"
    done
}

# Unpacks a kernel's package, of the version $version, into $tree/kernel.
unpack_kernel() {
    (cd "$tree" && apt-get download -q "$1" >/dev/null 2>&1) || skip "apt can't download $1"
    dpkg -x "$tree"/*.deb "$tree/kernel"
    PATH=$PATH:/usr/sbin:/sbin
    depmod -b "$tree/kernel" "$version"
}

# Makes of the kernel in $tree what FIRECRACKER_KERNEL names: a vmlinux, and the modules that it wants.
make_machine_kernel() {
    mkdir -p "$1/modules"
    get_modules "$1/modules" virtio_mmio virtio_blk vmw_vsock_virtio_transport virtio_rng \
        erofs overlay ext4
    # Only machines with a network load it, by a list of its own.
    mkdir "$1/network"
    get_modules "$1/network" tun
    mv "$1/network/order" "$1/network/order-network"
    mv "$1/network"/* "$1/modules"
    rmdir "$1/network"
    "$here/vm/vmlinux.py" "$tree/kernel/boot/vmlinuz-$version" "$1/vmlinux"
}
