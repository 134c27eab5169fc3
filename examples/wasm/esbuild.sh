#!/bin/sh
# A compiler for TypeScript that nobody has to trust: esbuild, as its authors build it for WASI, from npm.
#
#   echo 'let n: number = 1 + 2; export { n }' | examples/wasm/esbuild.sh --loader=ts --minify
#   BACKEND=hyperlight examples/wasm/esbuild.sh --version
#
# What it reads comes by its input: it is shown no file. It is downloaded and compiled the first time.
set -eu
version=0.27.2
digest=ed4ef442d8db48e201bf5f55b8cd6a8fb65d21bcfa2705cc5a7381ceed33f008

folder=${XDG_CACHE_HOME:-$HOME/.cache}/agentkernel-examples
module=$folder/esbuild-$version.wasm
if [ ! -e "$module" ]; then
    mkdir -p "$folder"
    draft=$(mktemp -d "$folder/draft.XXXXXX")
    trap 'rm -rf "$draft"' EXIT
    npm pack --silent --pack-destination "$draft" "@esbuild/wasi-preview1@$version" >/dev/null
    tar -xzf "$draft"/*.tgz -C "$draft" package/esbuild.wasm
    echo "$digest  $draft/package/esbuild.wasm" | sha256sum -c --quiet
    mv "$draft/package/esbuild.wasm" "$module"
    rm -rf "$draft"
fi
exec "${AGENTKERNEL:-agentkernel}" run --backend "${BACKEND:-wasm}" --memory 1G "$module" "$@"
