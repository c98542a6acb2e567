#!/usr/bin/env bash
# The first process of the private machine: mounts and network, then the command given.
set -euo pipefail

mount --make-rshared /
umount -R -l /sys # the machine's own cgroups are no business of the node
mount -t proc proc /proc
mount -t sysfs sysfs /sys
# kubelet insists on these three, which are the whole machine's: it is shown what it wants, and they stay as they are
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
  file=$NODE/run/sysctl-$(basename "${setting%=*}")
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
  mkdir /sys/fs/cgroup/$controller
  mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
done
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock "$NODE/run/varlog"
mount --bind "$NODE/run/varlog" /var/log
# kubelet, containerd and CNI write to fixed paths (/var/lib/kubelet/device-plugins, /opt/containerd, /etc/cni,
# /usr/libexec/kubernetes): they get a layer that is thrown away
for folder in /var/lib /opt /etc /usr/libexec; do
  layer=/run/over$(echo $folder | tr / -)
  mkdir -p "$layer/up" "$layer/work"
  mount -t overlay overlay -o "lowerdir=$folder,upperdir=$layer/up,workdir=$layer/work" $folder
done
hostname node1
ip link set lo up
# one end of a cable whose other end nobody holds: an address for the node, and no way out
ip link add node0 type veth peer name node0p
ip link set node0p up
ip addr add 172.31.0.10/24 dev node0
ip link set node0 up
ip route add default via 172.31.0.1 dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
exec "$@"
