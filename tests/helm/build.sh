#!/usr/bin/env bash
# Builds Helm from its Go module into a cache and prints the path of the program. One folder for each content of go.mod,
# go.sum, this script and the Go version; it counts only while the program has the SHA-256 that was written down after
# the build. SEKUIRE_HELM names a program to use instead.
#
# A helm that happens to be on the path is not used: what it renders is compared byte for byte by `make check`.
set -euo pipefail
cd "$(dirname "$0")"

HELM_VERSION=v4.3.1

say() { echo "$*" >&2; }
if [ -n "${SEKUIRE_HELM:-}" ]; then
  "$SEKUIRE_HELM" version --short >/dev/null || { say "SEKUIRE_HELM=$SEKUIRE_HELM does not run"; exit 1; }
  echo "$SEKUIRE_HELM"; exit 0
fi
key=$( (cat go.mod go.sum build.sh; go version) | sha256sum | cut -c1-16)
cache=${SEKUIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sekuire}
bin=$cache/helm-$HELM_VERSION-$key
whole() { [ -f "$bin/SHA256SUMS" ] && (cd "$bin" && sha256sum --quiet --strict -c SHA256SUMS >/dev/null 2>&1); }

mkdir -p "$cache"
exec 9>"$cache/.lock-helm"
flock 9 # two builds at once would take twice as long, each
if ! whole; then
  say "building Helm $HELM_VERSION from its Go module (once; about 3 minutes on two cores) into $bin"
  rm -rf "$bin" "$bin.part"
  mkdir -p "$bin.part"
  CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$HELM_VERSION" -o "$bin.part/helm" helm.sh/helm/v4/cmd/helm >&2
  (cd "$bin.part" && sha256sum helm >SHA256SUMS)
  mv "$bin.part" "$bin"
fi
echo "$bin/helm"
