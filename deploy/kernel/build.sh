#!/usr/bin/env bash
# Builds a small kernel for micro-VMs out of Debian's own kernel source, with what guest.config says.
#
#   deploy/kernel/build.sh [GENERATION]
#
# GENERATION is a package's `linux-source-GENERATION`, such as 6.12; without one it is the newest
# that the machine's release or its backports have. The last line names the kernel: an uncompressed
# ELF file, as Firecracker wants it, below XDG_CACHE_HOME. It is there already if source, options
# and compiler are the same as last time. In the environment:
#
#   JOBS      compilers at once (as many as there are processors)
#   KEEP      set: the unpacked source and what was compiled is kept too (2 GB)
#
# Nothing of the machine is changed but for missing tools, which apt installs as root.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agentkernel/kernel
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%s kernel: %s\n' "$(date +%T)" "$*" >&2; }

fail() {
    echo "error: $1" >&2
    [ $# = 1 ] || echo "hint: $2" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs what is missing of the tools. Each is named with the package that has it.
get_tools() {
    local missing=() tool package
    while read -r tool package; do
        command -v "$tool" >/dev/null || missing+=("$package")
    done <<-TOOLS
	gcc gcc
	make make
	flex flex
	bison bison
	bc bc
	xz xz-utils
	TOOLS
    # The kernel's check of its own object files reads them with this library.
    echo '#include <gelf.h>' | cc -E - >/dev/null 2>&1 || missing+=(libelf-dev)
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "can't be installed: ${missing[*]}" "install them and try again"
}

# Puts what apt knows of the machine's release and its backports into lists of our own, from where
# the machine has its release: its own lists stay as they are.
make_lists() {
    local suite mirror key
    # shellcheck disable=SC1091 # there on every Debian
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # the words are apt's to fill in
    read -r mirror key < <(apt-get indextargets --format '$(CODENAME) $(REPO_URI) $(SIGNED_BY)' \
        'Created-By: Packages' | sed -n "s/^$suite //p" | head -n 1) ||
        fail "apt has no source for $suite" "run apt-get update as root"
    # Of keys that it does not tell, an older apt leaves the word as it is: then they are those that it trusts.
    [[ $key != '$('* ]] || key=
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
    for suite in "$suite" "$suite-backports"; do
        echo "deb ${key:+[signed-by=$key]} $mirror $suite main"
    done >"$work/apt/sources.list"
    cat >"$work/apt/conf" <<-CONF
	Dir::Etc::sourcelist "$work/apt/sources.list";
	Dir::Etc::sourceparts "-";
	Dir::State::lists "$work/apt/lists";
	Dir::Cache "$work/apt/cache";
	APT::Sandbox::User "";
	CONF
    export APT_CONFIG=$work/apt/conf
    apt-get update -qq || fail "apt can't fetch its lists from $mirror" "see whether it is reachable"
}

# The package that is wanted, and its newest version.
choose_source() {
    local package=${1:+linux-source-$1}
    [ -n "$package" ] || package=$(apt-cache pkgnames linux-source- |
        grep -E '^linux-source-[0-9.]+$' | sort -V | tail -n 1)
    version=$(apt-cache madison "$package" | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' |
        sort -V | tail -n 1)
    [ -n "$version" ] || fail "apt knows no ${package:-linux-source}" "name a generation, such as 6.12"
    source=$package
}

# Whatever makes another kernel of it is in the name: source, options, compiler.
name_kernel() {
    local digest
    digest=$({ echo "$version"; gcc --version | head -n 1; grep -h CONFIG_ "$here/guest.config"; } |
        sha256sum | cut -c 1-12)
    kernel=$cache/vmlinux-${version%%[-~]*}-$digest
}

unpack() {
    say "fetching $source $version"
    (cd "$work" && apt-get download -qq "$source=$version" >/dev/null 2>&1) ||
        fail "apt can't download $source=$version"
    mkdir -p "$tree"
    dpkg --fsys-tarfile "$work"/linux-source-*.deb |
        tar -xO "./usr/src/$source.tar.xz" | tar -xJ -C "$tree" --strip-components=1
    rm "$work"/linux-source-*.deb
}

# The options, each as guest.config has it: one that was renamed, or needs another that is missing,
# is dropped by the kernel's own tools without a word.
configure() {
    local line lost=0
    make -s -C "$tree" O="$tree/out" KCONFIG_ALLCONFIG="$here/guest.config" allnoconfig \
        >"$work/configure.log" 2>&1 || { cat "$work/configure.log" >&2; fail "configuring failed"; }
    while read -r line; do
        case $line in
        CONFIG_*) grep -qxF "$line" "$tree/out/.config" && continue ;;
        "# CONFIG_"*" is not set")
            line=${line#\# }
            grep -q "^${line%% *}=" "$tree/out/.config" || continue
            ;;
        *) continue ;;
        esac
        echo "not as guest.config has it: $line" >&2
        lost=1
    done <"$here/guest.config"
    [ $lost = 0 ] || fail "$source has other options" "adapt guest.config, or name another generation"
}

# Two builds of the same are the same, bit by bit: no time, no host, no path.
compile() {
    export KBUILD_BUILD_USER=agentkernel KBUILD_BUILD_HOST=agentkernel
    KBUILD_BUILD_TIMESTAMP=@$(stat -c %Y "$tree/Makefile")
    export KBUILD_BUILD_TIMESTAMP
    make -s -C "$tree" O="$tree/out" -j "${JOBS:-$(nproc)}" vmlinux >"$work/compile.log" 2>&1 ||
        { tail -n 30 "$work/compile.log" >&2; fail "compiling $source failed"; }
    # Names for a debugger would be read at each start of a VM.
    objcopy --strip-all "$tree/out/vmlinux" "$kernel.part"
    cp "$tree/out/.config" "$kernel.config"
    mv "$kernel.part" "$kernel"
}

main() {
    local source version kernel tree start=$SECONDS
    [ "$(uname -m)" = x86_64 ] || fail "guest.config is for x86-64, and this is $(uname -m)"
    command -v apt-get >/dev/null || fail "the source comes by apt-get, which is not there" \
        "name a kernel of yours by its path"
    get_tools
    make_lists
    choose_source "$@"
    mkdir -p "$cache"
    name_kernel
    if [ ! -e "$kernel" ]; then
        tree=$work/tree
        [ -z "${KEEP:-}" ] || tree=$cache/source-$version
        [ -e "$tree/Makefile" ] || unpack
        configure
        say "compiling, which takes minutes"
        compile
        say "built in $((SECONDS - start)) s, $(($(stat -c %s "$kernel") / 1024)) KiB"
    fi
    echo "$kernel"
}

main "$@"
