#!/usr/bin/env bash
# Opens the benchmark page in a real browser, as wide as a phone and as a desk's screen, in the light
# and in the dark, and checks what only a browser knows: that nothing hangs over, that charts can be
# seen and read, that it asks for nothing and complains of nothing.
#
#   scripts/lanes/page.sh [PAGE.html...]
#
# Without a page it takes one of made-up results, and docs/benchmarks.html if there is one. In the
# environment:
#
#   SHOTS   a folder that gets a picture of each view
#
# The exit status is 0 if nothing is wrong, 1 if something is, and 2, with the reason in the last
# line, where the lane can't run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() {
    echo "$*"
    exit 2
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Prints the browser's name, once it is there.
browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome || true
}

get_browser() {
    [ -z "$(browser)" ] || return 0
    command -v apt-get >/dev/null || skip "there is no chromium, and no apt-get to install it"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -qq || skip "there is no chromium, and apt-get update failed"
    as_root apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null ||
        skip "chromium can't be installed"
    [ -n "$(browser)" ] || skip "chromium was installed, but is not there"
}

main() {
    local pages=("$@")
    command -v python3 >/dev/null || skip "there is no python3"
    get_browser
    if [ ${#pages[@]} = 0 ]; then
        pages=("$work/made-up.html")
        (cd "$checkout" && cargo run --quiet -p agentkernel-bench --example page -- "${pages[0]}")
        [ ! -e "$checkout/docs/benchmarks.html" ] || pages+=("$checkout/docs/benchmarks.html")
    fi
    # Whatever it fails with is a failure, and never "can't run".
    python3 "$here/page/check.py" "$(browser)" "${pages[@]}" || return 1
}

main "$@"
