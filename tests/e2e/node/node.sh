#!/usr/bin/env bash
# The node: etcd, the control plane, containerd, kubelet and kube-proxy. Lives as long as etcd does. Writes NODE/up when
# pods can be scheduled. The programs are on the PATH.
set -uo pipefail
cd "$NODE"
pki=$NODE/pki logs=$NODE/logs

start() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >"$logs/$name.log" 2>&1 &
}
until_true() { # WHAT COMMAND...
  local what=$1 start=$SECONDS
  shift
  until "$@" >/dev/null 2>&1; do
    if [ $((SECONDS - start)) -gt 90 ]; then
      echo "$what: not within 90 s; see $logs" >&2
      exit 1
    fi
    sleep 0.1
  done
  echo "$what"
}

start etcd etcd --data-dir run/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster default=http://127.0.0.1:2380 --unsafe-no-fsync
etcd=$!
start containerd containerd -c conf/containerd.toml
start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 \
  --advertise-address=172.31.0.10 --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
  --client-ca-file="$pki/ca.crt" --kubelet-client-certificate="$pki/kubelet-client.crt" \
  --kubelet-client-key="$pki/kubelet-client.key" --kubelet-certificate-authority="$pki/ca.crt" \
  --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --service-cluster-ip-range=10.96.0.0/16 \
  --cert-dir="$NODE/run/apiserver"
export KUBECONFIG=$pki/admin.kubeconfig
until_true "API server ready" kubectl get --raw /readyz
until_true "containerd ready" ctr version
for image in images/*.tar; do
  ctr -n k8s.io images import --snapshotter overlayfs "$image" || exit 1
done >"$logs/import.log" 2>&1
start kube-controller-manager kube-controller-manager --kube-api-qps=500 --kube-api-burst=1000 \
  --kubeconfig="$pki/kcm.kubeconfig" --authentication-kubeconfig="$pki/kcm.kubeconfig" \
  --authorization-kubeconfig="$pki/kcm.kubeconfig" --service-account-private-key-file="$pki/sa.key" \
  --root-ca-file="$pki/ca.crt" --use-service-account-credentials --leader-elect=false --cert-dir="$NODE/run/kcm"
start kube-scheduler kube-scheduler --kubeconfig="$pki/scheduler.kubeconfig" \
  --authentication-kubeconfig="$pki/scheduler.kubeconfig" --authorization-kubeconfig="$pki/scheduler.kubeconfig" \
  --leader-elect=false --cert-dir="$NODE/run/scheduler"
start kubelet kubelet --config=conf/kubelet.yaml --kubeconfig="$pki/kubelet.kubeconfig" --root-dir="$NODE/run/kubelet" \
  --cert-dir="$NODE/run/kubelet-pki" --hostname-override=node1 --node-ip=172.31.0.10
start kube-proxy kube-proxy --config=conf/proxy.yaml
until_true "node ready" kubectl wait --for=condition=Ready node/node1 --timeout=1s
# a pod cannot start without them
until_true "default namespace filled" kubectl get configmap/kube-root-ca.crt serviceaccount/default
touch up
wait "$etcd"
