# The images that containers.sh gives to engines, made of what this machine has: no registry is asked.
# They are archives that `docker load`, `podman load` and skopeo read, and so the same for all.

test_image=localhost/agentkernel-test:latest

# Whose programs the suites' commands are made of.
test_packages=(
    bash bsdutils coreutils dash diffutils findutils grep gzip hostname mount perl-base procps
    sed sysvinit-utils tar util-linux
)

# Puts users and the usual folders into a tree.
furnish() {
    local tree=$1
    mkdir -p "$tree"/{dev,etc,home/tester,opt,proc,run,srv,sys,tmp,usr,var/tmp} "$tree/root"
    chmod 1777 "$tree/tmp" "$tree/var/tmp"
    chmod 700 "$tree/root"
    chown 4321:4321 "$tree/home/tester"
    cat >"$tree/etc/passwd" <<-END
	root:x:0:0:root:/root:/bin/sh
	tester:x:4321:4321:tester:/home/tester:/bin/sh
	nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
	END
    cat >"$tree/etc/group" <<-END
	root:x:0:
	tty:x:5:
	tester:x:4321:
	nogroup:x:65534:
	END
    echo 'passwd: files' >"$tree/etc/nsswitch.conf"
}

# Copies the programs of packages and the libraries that these want into a tree.
copy_programs() (
    local tree=$1 link programs behind=()
    shift
    # Where a machine has /bin as a link, the tree has it, too, and files are put where it leads.
    for link in bin sbin lib lib32 lib64 libx32; do
        [ -L /$link ] || continue
        cp -P /$link "$tree/"
        mkdir -p "$tree$(realpath /$link)"
        behind+=(-e "s,^/$link/,$(realpath /$link)/,")
    done
    mapfile -t programs < <(dpkg -L "$@" 2>/dev/null | grep -E '^(/usr)?/s?bin/[^/]+$' |
        while read -r file; do [ ! -f "$file" ] || echo "$file"; done)
    {
        printf '%s\n' "${programs[@]}"
        # It fails if one of them is a script or static.
        { ldd "${programs[@]}" 2>/dev/null || true; } |
            sed -nE 's/^\s+(.* => )?(\/[^ ]+) \(0x.*/\2/p'
    } | sed -e '' "${behind[@]}" | sort -u >"$tree.list"
    # Links come as what they lead to: alternatives would lead out of the tree. It has to be done in
    # the root, where cp of Debian 12 looks for the folders of absolute paths.
    cd /
    xargs -a "$tree.list" cp --dereference --preserve=mode --parents -t "$tree"
)

# Makes an image of a tree and the settings that a container of it starts with.
pack() {
    local tree=$1 name=$2 settings=$3 layer
    # Without times, so that the same tree is the same image.
    tar -C "$tree" --numeric-owner --sort=name --mtime=@0 -cf "$tree.d/layer.tar" .
    layer=$(sha256sum "$tree.d/layer.tar" | cut -d' ' -f1)
    cat >"$tree.d/config.json" <<-END
	{"architecture": "$architecture", "os": "linux", "created": "1970-01-01T00:00:00Z",
	 "config": {$settings},
	 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]},
	 "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "containers.sh"}]}
	END
    cat >"$tree.d/manifest.json" <<-END
	[{"Config": "config.json", "RepoTags": ["localhost/$name:latest"], "Layers": ["layer.tar"]}]
	END
    tar -C "$tree.d" -cf "$dir/images/$name.tar" config.json layer.tar manifest.json
    rm -rf "$tree" "$tree.d" "$tree.list"
}

make_images() {
    local architecture applet work=$dir/images/work
    local settings='"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["sh"]'
    architecture=$(dpkg --print-architecture)
    case $architecture in
    i386) architecture=386 ;;
    armhf) architecture=arm ;;
    esac
    mkdir -p "$work"/{test,busybox,empty}{,.d}
    copy_programs "$work/test" "${test_packages[@]}"
    furnish "$work/test"
    pack "$work/test" agentkernel-test "$settings"
    if command -v busybox >/dev/null; then
        mkdir "$work/busybox/bin"
        cp --dereference "$(command -v busybox)" "$work/busybox/bin/busybox"
        for applet in $(busybox --list); do
            # It is in its own list.
            [ "$applet" = busybox ] || ln -s busybox "$work/busybox/bin/$applet"
        done
        furnish "$work/busybox"
        pack "$work/busybox" agentkernel-busybox "$settings"
    fi
    pack "$work/empty" agentkernel-empty ""
    rm -rf "$work"
    chmod a+r "$dir"/images/*.tar
}
