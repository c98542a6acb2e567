#!/usr/bin/env bash
# Installs the Python libraries of the tests into a cache, and prints the interpreter that has them.
set -euo pipefail
cd "$(dirname "$0")"

key=$( (cat requirements.txt build.sh; python3 --version) | sha256sum | cut -c1-16)
cache=${SEKUIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sekuire}
home=$cache/python-$key
whole() { "$home/bin/python" -c 'import blake3, cryptography, rfc8785' 2>/dev/null; }

mkdir -p "$cache"
exec 9>"$cache/.lock-python"
flock 9
if ! whole; then
  rm -rf "$home"
  python3 -m venv "$home" >&2
  "$home/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r requirements.txt >&2
  whole
fi
echo "$home/bin/python"
