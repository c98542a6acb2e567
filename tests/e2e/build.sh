#!/usr/bin/env bash
# Builds kubelet, kube-proxy and kube-scheduler into a cache and prints the folder they are in: what a node needs
# besides tests/cluster/build.sh. From the same go.mod, so of the same version; a cache of their own, so that a change
# here builds nothing there. The cache is kept and verified as there.
set -euo pipefail
cd "$(dirname "$0")"

K8S_VERSION=$(sed -n 's/^K8S_VERSION=//p' ../cluster/build.sh)

say() { echo "$*" >&2; }
names() { grep -v '^#' programs | cut -d' ' -f1; }

key=$( (cat ../cluster/go.mod ../cluster/go.sum programs build.sh; echo "$K8S_VERSION"; go version) | sha256sum | cut -c1-16)
cache=${SEKUIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sekuire}
bin=$cache/node-$K8S_VERSION-$key

whole() { [ -f "$bin/SHA256SUMS" ] && (cd "$bin" && sha256sum --quiet --strict -c SHA256SUMS >/dev/null 2>&1); }

mkdir -p "$cache"
exec 9>"$cache/.lock-node"
flock 9
if ! whole; then
  say "building the programs of a node, Kubernetes $K8S_VERSION, from Go modules (once; about 2 minutes on two cores) into $bin"
  rm -rf "$bin" "$bin.part"
  mkdir -p "$bin.part"
  c=k8s.io/component-base/version
  # without them the node's version is v0.0.0-master, and Helm's kubeVersion checks go wrong
  ld="-s -w -X $c.gitVersion=$K8S_VERSION -X $c.gitMajor=1 -X $c.gitMinor=36 -X $c.gitTreeState=clean -X $c.gitCommit=unknown"
  start=$SECONDS
  while read -r name package; do
    case $name in \#*) continue ;; esac
    (cd ../cluster && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "$ld" -o "$bin.part/$name" "$package") >&2
    say "  $name after $((SECONDS - start)) s"
  done <programs
  list=$(names); (cd "$bin.part" && sha256sum $list >SHA256SUMS)
  mv "$bin.part" "$bin"
fi
echo "$bin"
