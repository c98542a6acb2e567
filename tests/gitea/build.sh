#!/usr/bin/env bash
# Builds Gitea, a whole forge, from its Go module into a cache and prints the folder with the program `gitea` and the
# `static` files that it needs. One folder for each content of go.mod, go.sum, this script and the Go version.
set -euo pipefail
cd "$(dirname "$0")"

say() { echo "$*" >&2; }
key=$( (cat go.mod go.sum build.sh; go version) | sha256sum | cut -c1-16)
cache=${SEKUIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sekuire}
bin=$cache/gitea-$key

mkdir -p "$cache"
exec 9>"$cache/.lock-gitea"
flock 9 # two builds at once would take twice as long, each
if ! [ -d "$bin" ]; then
  say "building Gitea from its Go module (once; about 3 minutes on two cores) into $bin"
  rm -rf "$bin.part"
  mkdir -p "$bin.part/static"
  CGO_ENABLED=1 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -tags 'sqlite sqlite_unlock_notify' \
    -ldflags '-s -w' -o "$bin.part/gitea" code.gitea.io/gitea >&2
  module=$(go list -m -f '{{.Dir}}' code.gitea.io/gitea)
  cp -r "$module/templates" "$module/options" "$module/public" "$bin.part/static/"
  chmod -R u+w "$bin.part/static"
  mv "$bin.part" "$bin" # a whole one, or none
fi
echo "$bin"
