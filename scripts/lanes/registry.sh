#!/usr/bin/env bash
# Brings registries up on loopback, Debian's docker-registry filled by skopeo with images that are made
# here, and takes them down again.
#
#   scripts/lanes/registry.sh up DIR      and then   . DIR/environment
#   scripts/lanes/registry.sh down DIR
#
# The names in DIR/environment are those of what is there and no others:
#
#   TESTKIT_REGISTRY             HOST:PORT, without TLS, for anybody
#   TESTKIT_REGISTRY_LOG         its log, with a line for each request
#   TESTKIT_REGISTRY_DEBIAN      set if it has debian:1, which takes minutes to make for the first time;
#                                it is kept under XDG_CACHE_HOME
#   TESTKIT_REGISTRY_ZSTD        set if it has zstd:1
#   TESTKIT_REGISTRY_PRIVATE     HOST:PORT of one that hands out private:1 to whoever knows a user's
#   TESTKIT_REGISTRY_USER        name and
#   TESTKIT_REGISTRY_PASSWORD    password
#
# and the images, for anybody, are
#
#   agentkernel-test:1 agentkernel-busybox:1 agentkernel-empty:1    as containers.sh has them
#   debian:1    a minimal Debian with python3
#   layers:1    four layers with whiteouts, an opaque directory and hard links
#   index:1     an index of images for this machine and for another one
#   zstd:1      agentkernel-busybox, packed with zstd
#
# The exit status is 0 if all of it is there, 77 if something can't be had here, with the reason in the
# last line, and 1 if something failed. It needs root, or sudo.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/containers/images.sh"
. "$here/containers/start.sh"
. "$here/containers/undo.sh"
. "$here/registry/images.sh"

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022
# Somebody without a name.
ordinary=23456
user=tester password=correct-horse
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/agentkernel-registry-lane

usage() {
    echo "usage: scripts/lanes/registry.sh up|down DIR"
    exit 2
}

# Starts a registry on a port that the kernel picks, and sets `address`. Further words are lines of its
# settings.
start_registry() {
    local name=$1 line
    shift
    mkdir -p "$dir/$name"
    {
        echo "version: 0.1"
        echo "storage: {filesystem: {rootdirectory: $dir/$name}, delete: {enabled: true}}"
        echo 'http: {addr: "127.0.0.1:0"}'
        for line; do echo "$line"; done
    } >"$dir/$name.yml"
    start remember "$dir/log/$name" env -i "PATH=$PATH" docker-registry serve "$dir/$name.yml"
    await "$dir/log/$name" grep -q 'listening on 127' "$dir/log/$name"
    address=$(sed -n 's/.*listening on \(127.0.0.1:[0-9]*\).*/\1/p' "$dir/log/$name" | head -n 1)
}

# Copies from an archive, a layout or a registry, without whatever the caller's settings say. As nobody
# in particular: of root's, skopeo remembers outside of our folder which blobs it has seen where, and
# takes them in place of what it is asked to pack.
copy() {
    rm -rf "$dir/skopeo/home"
    setpriv --reuid $ordinary --regid $ordinary --clear-groups env -i "PATH=$PATH" \
        "HOME=$dir/skopeo/home" "TMPDIR=$dir/skopeo" "XDG_RUNTIME_DIR=$dir/skopeo" skopeo --insecure-policy copy --quiet \
        --src-tls-verify=false --dest-tls-verify=false "$@"
}

up() {
    local archive address public reason=""
    [ ! -e "$made" ] || take_down || { echo "what was there before is still in the way"; exit 1; }
    mkdir -p "$dir"/{log,images,skopeo}
    chown $ordinary:$ordinary "$dir/skopeo"
    get_packages <<-PACKAGES
	skopeo skopeo
	docker-registry docker-registry
	/usr/share/doc/busybox-static busybox-static
	debootstrap debootstrap
	perl perl-base
	jq jq
	PACKAGES
    need skopeo docker-registry busybox perl jq setpriv
    start_registry registry
    public=$address
    make_images
    for archive in "$dir"/images/*.tar; do
        copy "docker-archive:$archive" "docker://$public/$(basename "$archive" .tar):1"
    done
    push_layers "$public"
    push_index "$public"
    known TESTKIT_REGISTRY "$public"
    known TESTKIT_REGISTRY_LOG "$dir/log/registry"
    if copy --format oci --dest-compress-format zstd \
        "docker-archive:$dir/images/agentkernel-busybox.tar" "docker://$public/zstd:1"; then
        known TESTKIT_REGISTRY_ZSTD 1
    else
        reason+="skopeo packs nothing with zstd; "
    fi
    if get_debian; then
        # Where it is kept is root's alone.
        cp "$cache/debian.tar" "$dir/images/debian.tar"
        copy "docker-archive:$dir/images/debian.tar" "docker://$public/debian:1"
        known TESTKIT_REGISTRY_DEBIAN 1
    else
        reason+="there is no Debian: $(tail -n 1 "$dir/log/debian"); "
    fi
    up_private "$dir/images/agentkernel-busybox.tar"
    rm -rf "$dir"/{images,skopeo}
    mv "$dir/environment.part" "$dir/environment"
    echo "registries: $public, $address (who is known)"
    [ -z "$reason" ] || skip "${reason%; }"
}

up_private() {
    local archive=$1
    # Of 22 characters, the last a full one, as bcrypt has them.
    # shellcheck disable=SC2016 # the dollars are bcrypt's
    perl -e 'print "$ARGV[0]:", crypt($ARGV[1], q($2b$05$agentkernelsregistryO.)), "\n"' \
        "$user" "$password" >"$dir/passwords"
    grep -q ':\$2b\$' "$dir/passwords" || skip "this machine's crypt knows no bcrypt"
    start_registry private "auth: {htpasswd: {realm: test, path: $dir/passwords}}"
    copy --dest-creds "$user:$password" "docker-archive:$archive" "docker://$address/private:1"
    known TESTKIT_REGISTRY_PRIVATE "$address"
    known TESTKIT_REGISTRY_USER "$user"
    known TESTKIT_REGISTRY_PASSWORD "$password"
}

take_down() {
    [ -e "$made" ] || return 0
    undo_list "$made" || return 1
    rm -rf "$dir"/{log,images,skopeo,registry,private,made,environment,environment.part,passwords} \
        "$dir"/{registry,private}.yml
    # Whoever made it before has something else in it.
    rmdir "$dir" 2>/dev/null || true
}

[ $# = 2 ] || usage
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || skip "only root can make images of users' files, and there is no sudo"
    exec sudo -n --preserve-env=XDG_CACHE_HOME bash "${BASH_SOURCE[0]}" "$@"
fi
dir=$(realpath -m "$2")
made=$dir/made
case $1 in
up) up ;;
down) take_down ;;
*) usage ;;
esac
