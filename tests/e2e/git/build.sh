#!/usr/bin/env bash
# build.sh FOLDER: copies nginx, fcgiwrap, git and sh with their libraries into FOLDER, for the image of a Git server.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
out=$1
export PATH=/usr/sbin:/sbin:$PATH
rm -rf "$out"
mkdir -p "$out"
programs=(/bin/sh "$(command -v git)" "$(command -v nginx)" "$(command -v fcgiwrap)" "$(command -v mkdir)" "$(git --exec-path)/git-http-backend")
libraries=$(ldd "${programs[@]}" | grep -o '/[^ :]*' | grep '\.so' | sort -u)
for file in "${programs[@]}" $libraries; do
  install -D "$file" "$out$file"
done
install "$here/serve" "$here/nginx.conf" "$out/"
sed -i "s#@GIT_CORE@#$(git --exec-path)#" "$out/nginx.conf"
# the other side of `git push` runs it by this name
ln -s git "$out$(dirname "$(command -v git)")/git-receive-pack"
