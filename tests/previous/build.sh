#!/usr/bin/env bash
# Builds `sekuire` as it was before, for the test of two versions side by side, and prints the folder of the program and of
# that version's crds/. Before: at the last tag v* that HEAD descends from, or, where nothing was released yet, at the commit
# before HEAD; SEKUIRE_PREVIOUS_COMMIT names another one. With SEKUIRE_PREVIOUS set it only looks whether that is such a folder.
#
# The folder lies in the cache (~/.cache/sekuire, or SEKUIRE_CACHE), one for each commit, of which two are kept. It counts only
# when every file in it has the SHA-256 that was written down after the build.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { echo "tests/previous/build.sh: $*" >&2; }
whole() { [ -f "$1/SHA256SUMS" ] && (cd "$1" && sha256sum --quiet --strict -c SHA256SUMS >/dev/null 2>&1); }

if [ -n "${SEKUIRE_PREVIOUS:-}" ]; then
  whole "$SEKUIRE_PREVIOUS" || { say "SEKUIRE_PREVIOUS=$SEKUIRE_PREVIOUS is not a whole folder of this script"; exit 1; }
  echo "$SEKUIRE_PREVIOUS"
  exit 0
fi

# of a checkout unpacked inside of another repository, that one knows nothing
top=$(git rev-parse --show-toplevel 2>/dev/null || true)
[ "$top" = "$(pwd -P)" ] || { say "not a Git checkout, so there is no version before; set SEKUIRE_PREVIOUS"; exit 1; }

wanted=${SEKUIRE_PREVIOUS_COMMIT:-}
if [ -z "$wanted" ]; then
  # -rc.1 comes before the release
  tags=$(git -c versionsort.suffix=- tag --list 'v*' --merged HEAD --no-contains HEAD --sort=-version:refname)
  wanted=${tags%%$'\n'*}
  wanted=${wanted:-HEAD^}
fi
commit=$(git rev-parse --verify --quiet "$wanted^{commit}") || {
  shallow=
  [ "$(git rev-parse --is-shallow-repository)" = false ] || shallow='; this is a shallow clone: git fetch --unshallow --tags'
  say "this clone has no commit $wanted$shallow"
  exit 1
}

cache=${SEKUIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sekuire}
home=$cache/previous-$commit
mkdir -p "$cache"
exec 9>"$cache/.lock-previous"
flock 9

if ! whole "$home"; then
  target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
  work=$target/previous
  say "building the version before ($wanted, $commit) into $home"
  # what both versions depend on is built once, here, where the tests need it anyway
  cargo build --locked --quiet --bin sekuire --example demo >&2
  rm -rf "$work" "$home" "$home.part"
  mkdir -p "$work/source" "$work/target/debug/.fingerprint" "$work/target/debug/deps"
  trap 'rm -rf "$work"' EXIT
  git archive "$commit" | tar -x -C "$work/source"
  # A target folder of its own: in a shared one Cargo takes the library of one version for that of the other, as it tells
  # packages apart by their paths inside of their workspaces. Copied, not linked: what is built again must not change
  # under the checkout.
  find "$target/debug/.fingerprint" -mindepth 1 -maxdepth 1 ! -name 'sekuire-*' -print0 |
    xargs -0 -r cp -a --reflink=auto -t "$work/target/debug/.fingerprint"
  find "$target/debug/deps" -maxdepth 1 -type f \( -name 'lib*' -o -name '*.d' \) ! -name '*sekuire*' ! -name 'libmain-*' -print0 |
    xargs -0 -r cp -a --reflink=auto -t "$work/target/debug/deps"
  cp -a --reflink=auto "$target/debug/build" "$work/target/debug/"
  # with an example, for the features that the tests' own dependencies ask of the others: another set would be built anew
  CARGO_INCREMENTAL=0 cargo build --locked --quiet --bin sekuire --example demo --manifest-path "$work/source/Cargo.toml" --target-dir "$work/target" >&2
  mkdir -p "$home.part"
  cp "$work/target/debug/sekuire" "$home.part/"
  cp -r "$work/source/crds" "$home.part/"
  (cd "$home.part" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
  mv "$home.part" "$home"
fi
touch "$home"
# a running test may still read the last one
find "$cache" -mindepth 1 -maxdepth 1 -type d -name 'previous-*' -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2- |
  xargs -r -d '\n' rm -rf
echo "$home"
