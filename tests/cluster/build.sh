#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kubectl and kube-controller-manager from go.mod into a cache and prints the
# folder they are in. With KUBEBUILDER_ASSETS set it builds nothing that is there already.
#
# The cache lies outside the checkout (~/.cache/sekuire, or SEKUIRE_CACHE), one folder for each content of
# go.mod, go.sum, this script and the Go version. A folder counts only when every program in it has the SHA-256
# that was written down after the build: half a build, or a damaged disk, is built again.
set -euo pipefail
cd "$(dirname "$0")"

K8S_VERSION=v1.36.3
ETCD_PACKAGE=go.etcd.io/etcd/server/v3

say() { echo "$*" >&2; }
names() { grep -v '^#' programs | cut -d' ' -f1; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  missing=$(for n in $(names); do [ -x "$KUBEBUILDER_ASSETS/$n" ] || echo "$n"; done)
  # envtest's assets have no kube-controller-manager; what needs it says so and is skipped
  if [ -z "$missing" ] || [ "$missing" = kube-controller-manager ]; then
    echo "$KUBEBUILDER_ASSETS"; exit 0
  fi
  say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks:" $missing; exit 1
fi

key=$( (cat go.mod go.sum programs build.sh; go version) | sha256sum | cut -c1-16)
cache=${SEKUIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sekuire}
bin=$cache/kubernetes-$K8S_VERSION-$key

whole() { [ -f "$bin/SHA256SUMS" ] && (cd "$bin" && sha256sum --quiet --strict -c SHA256SUMS >/dev/null 2>&1); }

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9 # two builds at once would take twice as long, each
if ! whole; then
  say "building Kubernetes $K8S_VERSION and etcd from Go modules (once; about 4 minutes on two cores) into $bin"
  rm -rf "$bin" "$bin.part"
  mkdir -p "$bin.part"
  c=k8s.io/component-base/version
  ld="-s -w -X $c.gitVersion=$K8S_VERSION -X $c.gitMajor=1 -X $c.gitMinor=36 -X $c.gitTreeState=clean -X $c.gitCommit=unknown"
  start=$SECONDS
  while read -r name package; do
    case $name in \#*) continue ;; esac
    flags=$ld; [ "$package" != $ETCD_PACKAGE ] || flags='-s -w'
    CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "$flags" -o "$bin.part/$name" "$package" >&2
    say "  $name after $((SECONDS - start)) s"
  done <programs
  list=$(names); (cd "$bin.part" && sha256sum $list >SHA256SUMS)
  mv "$bin.part" "$bin"
fi
echo "$bin"
