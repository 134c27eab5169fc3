# The images that registry.sh makes beside those of containers.sh.

# Packs a tree as one more layer of an image in the making, in `$1.d`: uncompressed, and without times.
add_layer() {
    local image=$1 tree=$2 layer
    mkdir -p "$image.d"
    layer=$image.d/$(find "$image.d" -name '*.tar' | wc -l).tar
    tar -C "$tree" --numeric-owner --sort=name --mtime=@0 -cf "$layer" .
    rm -rf "$tree"
}

# Makes an archive that skopeo reads of the layers of an image.
finish() {
    local image=$1 settings=$2 architecture=$3 layer digests=() names=()
    for layer in "$image".d/*.tar; do
        digests+=("\"sha256:$(sha256sum "$layer" | cut -d' ' -f1)\"")
        names+=("\"$(basename "$layer")\"")
    done
    cat >"$image.d/config.json" <<-END
	{"architecture": "$architecture", "os": "linux", "created": "1970-01-01T00:00:00Z",
	 "config": {$settings},
	 "rootfs": {"type": "layers", "diff_ids": [$(IFS=,; echo "${digests[*]}")]},
	 "history": [$(printf '{"created_by": "registry.sh"},%.0s' "${digests[@]}" | sed 's/,$//')]}
	END
    cat >"$image.d/manifest.json" <<-END
	[{"Config": "config.json", "RepoTags": null, "Layers": [$(IFS=,; echo "${names[*]}")]}]
	END
    tar -C "$image.d" -cf "$image.tar" .
    rm -rf "$image.d"
}

busybox_tree() {
    local tree=$1 applet
    mkdir -p "$tree/bin"
    cp --dereference "$(command -v busybox)" "$tree/bin/busybox"
    for applet in sh cat echo ls stat id env; do ln -s busybox "$tree/bin/$applet"; done
    furnish "$tree"
}

image_settings='"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "Cmd": ["sh"]'

# An image whose upper layers take away, replace and add.
push_layers() {
    local image=$dir/images/layers tree=$dir/images/layers.tree
    busybox_tree "$tree"
    mkdir -p "$tree/data/old" "$tree/data/kept"
    echo lowest >"$tree/data/gone"
    echo lowest >"$tree/data/old/hidden"
    echo lowest >"$tree/data/kept/file"
    add_layer "$image" "$tree"
    mkdir -p "$tree/data/old" "$tree/data/kept"
    : >"$tree/data/.wh.gone"
    : >"$tree/data/old/.wh..wh..opq"
    echo second >"$tree/data/old/shown"
    add_layer "$image" "$tree"
    mkdir -p "$tree/data/kept"
    echo third >"$tree/data/kept/file"
    ln "$tree/data/kept/file" "$tree/data/kept/same"
    ln -s kept/file "$tree/data/link"
    chmod 751 "$tree/data"
    chown 4321:4321 "$tree/data/kept/file"
    add_layer "$image" "$tree"
    # A file that is there again, and some that no packing makes smaller.
    mkdir -p "$tree/data"
    echo highest >"$tree/data/gone"
    head -c 3000000 /dev/urandom >"$tree/data/random"
    add_layer "$image" "$tree"
    finish "$image" "$image_settings" "$(oci_architecture)"
    copy "docker-archive:$image.tar" "docker://$1/layers:1"
    rm "$image.tar"
}

oci_architecture() {
    case $(dpkg --print-architecture) in
    i386) echo 386 ;;
    armhf) echo arm ;;
    *) dpkg --print-architecture ;;
    esac
}

# An index of two images, each of which says in /machine what it was made for.
push_index() {
    local layout=$dir/skopeo/index machine image tree index entries=()
    for machine in "$(oci_architecture)" s390x; do
        image=$dir/images/for-$machine tree=$dir/images/index.tree
        busybox_tree "$tree"
        echo "$machine" >"$tree/machine"
        add_layer "$image" "$tree"
        finish "$image" "$image_settings" "$machine"
        copy "docker-archive:$image.tar" "oci:$layout:$machine"
        rm "$image.tar"
        entries+=("$(jq -c --arg machine "$machine" '.manifests[]
            | select(.annotations["org.opencontainers.image.ref.name"] == $machine)
            | {mediaType, digest, size, platform: {os: "linux", architecture: $machine}}' \
            "$layout/index.json")")
    done
    index=$(printf '%s\n' "${entries[@]}" | jq -cs '{schemaVersion: 2,
        mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}')
    machine=$(printf %s "$index" | sha256sum | cut -d' ' -f1)
    printf %s "$index" >"$layout/blobs/sha256/$machine"
    jq -n --arg digest "sha256:$machine" --argjson size ${#index} '{schemaVersion: 2, manifests: [{
        mediaType: "application/vnd.oci.image.index.v1+json", digest: $digest, size: $size,
        annotations: {"org.opencontainers.image.ref.name": "all"}}]}' >"$layout/index.json"
    copy --all "oci:$layout:all" "docker://$1/index:1"
    rm -rf "$layout"
}

# A minimal Debian with Python, of this machine's own release and from where it has that.
get_debian() {
    local suite mirror image=$dir/images/debian
    [ ! -e "$cache/debian.tar" ] || return 0
    {
        need debootstrap
        suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
        # shellcheck disable=SC2016 # the words are apt's to fill in
        mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
            sed -n "s/^$suite //p" | head -n 1)
        mkdir -p "$cache"
        debootstrap --variant=minbase --include=python3-minimal "$suite" "$image.tree" "$mirror" &&
            rm -rf "$image.tree"/var/cache/apt/archives/*.deb &&
            add_layer "$image" "$image.tree" &&
            finish "$image" "${image_settings/sh/bash}" "$(oci_architecture)" &&
            mv "$image.tar" "$cache/debian.tar"
    } >"$dir/log/debian" 2>&1
}
