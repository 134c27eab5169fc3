# How lanes start what outlives them, and write down what is to be undone, in words of undo.sh. They
# set `dir`, their folder, and `made`, the list in it.

skip() {
    echo "$*"
    exit 77
}

need() {
    local tool
    for tool; do command -v "$tool" >/dev/null || skip "there is no $tool"; done
}

# Writes down what is to be undone, in words of undo.sh.
remember() { echo "$*" >>"$made"; }

# Starts a program that outlives this one, and sets `started` to its number. The first word says who is
# to remember it.
start() {
    local remember=$1 log=$2
    shift 2
    setsid "$@" </dev/null >"$log" 2>&1 &
    started=$!
    $remember process $started "$(born $started)"
}

# Waits until a command succeeds, as long as what was started lives.
await() {
    local log=$1 why="it does not answer"
    shift
    for _ in {1..150}; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        kill -0 $started 2>/dev/null || { why="it has ended at once" && break; }
        sleep 0.1
    done
    skip "$why: $(tail -n 1 "$log" | cut -c 1-300 | grep . || echo "without a word")"
}

# Installs what is missing of the packages. Each line names one, after a file or a command
# that it has. What can't be installed is missed by those who need it.
get_packages() {
    local missing=() probe package
    while read -r probe package; do
        case $probe in
        /*) [ -e "$probe" ] ;;
        *) command -v "$probe" >/dev/null ;;
        esac || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || return 0
    # Services of these packages would come up with settings, folders and ports that are not ours.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        remember file /usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    local install=(apt-get install -qq -y --no-install-recommends)
    {
        apt-get update -qq || true
        if ! "${install[@]}" "${missing[@]}"; then
            for package in "${missing[@]}"; do "${install[@]}" "$package" || true; done
        fi
    } </dev/null >"$dir/log/apt" 2>&1
    ! grep -qx "file /usr/sbin/policy-rc.d" "$made" || rm -f /usr/sbin/policy-rc.d
}

# Adds a line to what callers read.
known() { printf 'export %s=%q\n' "$1" "$2" >>"$dir/environment.part"; }
