#!/usr/bin/env bash
# Prepares the folder NODE (keys, configuration, the image of every pod's first process) and runs the node until it is
# killed. PROGRAMS are the folders of etcd, control plane, kubelet and kube-proxy, separated by colons.
#
# From a machine's point of view this is one process group: whoever kills it, ends the node.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
mkdir -p "$NODE"/{run,logs,images,pause}
cp -r "$here/conf" "$NODE/conf"
find "$NODE/conf" -type f -exec sed -i "s#@NODE@#$NODE#g" {} +
"$here/pki.sh"
cc -static -O2 -o "$NODE/pause/pause" "$here/pause/pause.c"
"$here/../../image/pack.py" "$here/pause/Dockerfile" --from "build=$NODE/pause" --name localhost/pause:1 "$NODE/images/pause.tar" >/dev/null
export PATH=$PROGRAMS:/usr/sbin:/sbin:$PATH
exec "$here/enter.sh" "$here/node.sh"
