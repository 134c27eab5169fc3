#!/usr/bin/env bash
# What is in examples/wasm, by each backend for modules that is ready here: the same words and input give
# the same output and the same end.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --quiet
cargo build --release --quiet -p agentkernel-daemon
AGENTKERNEL=$(realpath "${CARGO_TARGET_DIR:-target}"/*-linux-*/release/agentkernel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export AGENTKERNEL XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work XDG_CONFIG_HOME=$work/config
chmod 700 "$work"
modules=$PWD/examples/wasm

# Its name, what it must print, its exit status, and its words.
try() {
    local name=$1 expected=$2 status=$3 got ended=0
    shift 3
    got=$("$@" 2>"$work/errors") || ended=$?
    if [ "$got" = "$expected" ] && [ "$ended" = "$status" ]; then
        echo "passed $BACKEND $name"
    else
        echo "FAILED $BACKEND $name: $got, exit status $ended, and not $expected, $status"
        cat "$work/errors"
        exit 1
    fi
}

call() { "$AGENTKERNEL" run -B "$BACKEND" --invoke "$1" "$modules/calculator.wat" "${@:2}"; }
hello() { "$AGENTKERNEL" run -B "$BACKEND" "$modules/hello.wat"; }
javascript() {
    echo '[1, 2.5]' | "$modules/quickjs.sh" --std \
        -e 'console.log(JSON.parse(std.in.readAsString()).map(n => n * n))'
}
javascript_fails() { "$modules/quickjs.sh" -e 'throw Error("no")'; }
typescript() { echo 'let n: number = 1 + 2; export { n }' | "$modules/esbuild.sh" --loader=ts --minify; }

# A command written in Python, as a component: by componentize-py, from PyPI, and the interfaces that the
# engine comes with.
build_component() {
    local wit
    python3 -m venv "$work/python" >"$work/errors" 2>&1 &&
        "$work/python/bin/pip" install --quiet componentize-py >>"$work/errors" 2>&1 || return 1
    wit=$(cargo metadata --format-version 1 | python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "wasmtime-wasi":
        print(package["manifest_path"].removesuffix("Cargo.toml") + "src/p2/wit")')
    mkdir "$work/wit"
    cp -r "$wit/deps" "$work/wit"
    printf 'package test:app;\nworld app { include wasi:cli/command@%s; }\n' \
        "$(sed -n 's/.*wasi:cli\/imports@\(.*\);.*/\1/p' "$wit/world.wit" | head -n 1)" >"$work/wit/app.wit"
    # It leaves what it has compiled beside the source.
    cp scripts/lanes/examples/app.py "$work"
    (cd "$work" && python/bin/componentize-py --quiet -d wit -w app componentize app -o app.wasm)
}

component() {
    echo "a line" | (cd "$work/project" &&
        "$AGENTKERNEL" run -B "$BACKEND" --memory 1G --project=:ro "$@" "$work/app.wasm" "$port" file)
}

ready=$("$AGENTKERNEL" doctor || true)
for BACKEND in wasm hyperlight; do
    export BACKEND
    if ! grep -q "^$BACKEND: ready" <<<"$ready"; then
        echo "skipped $BACKEND: $(grep "^$BACKEND:" <<<"$ready" || echo "there is no such backend")"
        continue
    fi
    try hello hello 0 hello
    try add 5 0 call add 2 3
    try power -6289078614652622815 0 call power 3 40
    try divide "" 136 call divide 1 0
    if AGENTKERNEL=true "$modules/quickjs.sh" 2>"$work/errors"; then
        try javascript 1,6.25 0 javascript
        try javascript-fails "" 1 javascript_fails
    else
        echo "skipped $BACKEND javascript: it can't be fetched: $(tail -n 1 "$work/errors")"
    fi
    if command -v npm >/dev/null; then
        try esbuild 'let e=3;export{e as n};' 0 typescript
    else
        echo "skipped $BACKEND esbuild: there is no npm to fetch it with"
    fi
done

# Components have files and a network on the first of them alone.
BACKEND=wasm
if ! grep -q "^wasm: ready" <<<"$ready"; then
    exit 0
elif ! build_component; then
    echo "skipped wasm component: no componentize-py: $(tail -n 1 "$work/errors")"
    exit 0
fi
mkdir "$work/project"
echo content >"$work/project/file"
coproc SERVER { python3 scripts/lanes/examples/server.py; }
read -r port <&"${SERVER[0]}"
told=$(printf '%s\n' "words True file" "input a line" "file content")
try component "$told"$'\nno answer' 0 component --network none
try component-network "$told"$'\nanswer pong' 0 component --network full
