#!/usr/bin/env bash
# Builds the client of the published SDK into a cache and prints its path. `cargo` looks each time whether what is there
# is what the sources say; the folder is named after them, so that two checkouts do not build over each other.
set -euo pipefail
cd "$(dirname "$0")"

key=$(cat Cargo.toml Cargo.lock src/main.rs | sha256sum | cut -c1-16)
cache=${SEKUIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sekuire}
target=$cache/sdk-$key
mkdir -p "$target"
[ -e "$target/debug/sdk-client" ] || echo "building the SDK's client (once; about 3 minutes on two cores) into $target" >&2
cargo build --locked --quiet --target-dir "$target" >&2
echo "$target/debug/sdk-client"
