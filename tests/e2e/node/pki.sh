#!/usr/bin/env bash
# All keys and kubeconfigs of the node, below NODE/pki. Valid for a day.
set -euo pipefail
mkdir -p "$NODE/pki"
cd "$NODE/pki"

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }
certificate() { # NAME SUBJECT USAGE [ALTERNATIVE NAMES]
  key "$1"
  openssl req -new -key "$1.key" -out "$1.csr" -subj "$2"
  {
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$3"
    [ -z "${4:-}" ] || echo "subjectAltName=$4"
  } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -out "$1.crt" -extfile "$1.ext" 2>/dev/null
  rm "$1.csr" "$1.ext"
}
kubeconfig() { # NAME SUBJECT
  certificate "$1" "$2" clientAuth
  cat >"$1.kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: node
clusters: [{name: node, cluster: {server: "https://172.31.0.10:6443", certificate-authority: $PWD/ca.crt}}]
users: [{name: $1, user: {client-certificate: $PWD/$1.crt, client-key: $PWD/$1.key}}]
contexts: [{name: node, context: {cluster: node, user: $1}}]
END
}

key ca
openssl req -x509 -key ca.key -days 1 -out ca.crt -subj /CN=sekuire-e2e
certificate apiserver /CN=kube-apiserver serverAuth "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:172.31.0.10,IP:10.96.0.1"
certificate kubelet-server /CN=system:node:node1/O=system:nodes serverAuth "DNS:node1,IP:172.31.0.10"
certificate kubelet-client /CN=kube-apiserver-kubelet-client/O=system:masters clientAuth
kubeconfig admin /CN=admin/O=system:masters
kubeconfig kubelet /O=system:nodes/CN=system:node:node1
kubeconfig kcm /CN=system:kube-controller-manager
kubeconfig scheduler /CN=system:kube-scheduler
kubeconfig proxy /CN=system:kube-proxy
openssl genrsa -out sa.key 2048 2>/dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
