# How cluster.sh makes Kubernetes of Debian's source, and where that is kept.

programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl)

# Sets `bin` to where Kubernetes is, and `version` to which one, if there is one.
find_built() {
    bin=$(printf '%s\n' "$cache"/bin-* | sort -V | tail -n 1)
    version=${bin##*/bin-}
    [ -x "$bin/kubelet" ]
}

# The machine's own sources of packages as sources of their source, in $work/parts; and what apt-get is to be
# told so that it knows of no others, and changes nothing of the machine.
source_lists() {
    local file
    mkdir -p "$work"/{parts,lists/partial}
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -e "$file" ] || sed -n 's/^deb /deb-src /p' "$file" >"$work/parts/$(basename "$file" .list).list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -e "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/parts/$(basename "$file")"
    done
    of_source=(
        -o "Dir::Etc::SourceParts=$work/parts" -o Dir::Etc::SourceList=/dev/null
        -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root
    )
}

# Makes it below $work, and moves it to where it is kept when it is whole.
build() {
    # Of these, the folder is read when all has returned.
    local version bin of_source
    if find_built; then
        echo "kubernetes: $version is in $bin"
        return
    fi
    command -v apt-get >/dev/null || skip "Kubernetes is made of Debian's source, and there is no apt-get"
    mkdir -p "$cache"
    # Of a build that was cut off.
    rm -rf "$cache"/build.*
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || skip "apt-get update failed"
    apt-get install -qq -y --no-install-recommends golang-go dpkg-dev rsync make \
        golang-github-modern-go-reflect2-dev >/dev/null ||
        skip "can't be installed: golang-go dpkg-dev rsync make golang-github-modern-go-reflect2-dev"
    cd "$work"
    source_lists
    apt-get "${of_source[@]}" update -qq || skip "there are no sources of this machine's packages"
    apt-get "${of_source[@]}" source -qq --download-only kubernetes || skip "apt has no source of Kubernetes"
    dpkg-source -x kubernetes_*.dsc source >/dev/null
    version=$(dpkg-parsechangelog -l source/debian/changelog -S Version | sed 's/.*really//; s/-.*//')
    case $version in
    1.20.*) ;;
    *) skip "this lane knows how to make and start Kubernetes 1.20, and apt has $version" ;;
    esac
    mend_source
    echo "kubernetes: making $version, for some minutes"
    make_programs
    rm -rf "$cache/bin-$version"
    mv "$work/bin" "$cache/bin-$version"
    echo "kubernetes: $version was made in $SECONDS s"
}

# The reflect2 of its own walks maps as Go before 1.18 had them: of the first custom resource an API server
# with that dies. Debian has a newer one.
mend_source() {
    local own=$work/source/vendor/github.com/modern-go/reflect2
    rm "$own"/*.go "$own"/*.s
    cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$own"
}

make_programs() {
    local go what
    go=$(printf '%s\n' /usr/lib/go-*/bin | sort -V | tail -n 1)
    what=$(printf 'cmd/%s ' "${programs[@]}")
    env -C "$work/source" "PATH=$go:$PATH" "HOME=$work" "TMPDIR=$work" "GOPATH=$work/source/.go" "GOCACHE=$work/cache" \
        CGO_ENABLED=0 "KUBE_GIT_VERSION=v$version" "GOFLAGS=-p=$(nproc)" \
        nice make WHAT="$what" >"$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }
    mkdir "$work/bin"
    (cd "$work/source/_output/bin" && cp "${programs[@]}" "$work/bin")
    : >"$work/bin/takes-custom-resources"
}
