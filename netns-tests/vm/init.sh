#!/bin/bash
# The first process of a guest: makes the root writable in memory, runs the command, keeps its output and exit code, and turns
# the guest off. In its environment are share, the shared directory; modules, where the kernel's modules are; overlay, the one
# that the root needs. A guest with a ramdisk comes in halfway, with the shared directory on /media.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
if [ "${1:-}" != inside ]; then
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  insmod "$overlay"
  mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/upper /mnt/work /mnt/root
  mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
  mount -t devtmpfs dev /mnt/root/dev
  mount -t hostfs -o "$share" none /mnt/root/media # below /tmp it would be hidden
  exec switch_root /mnt/root /media/init inside 2>/dev/null # which takes /proc and /sys along
fi

exec 2>&1
mkdir -p /dev/pts /dev/shm /lib/modules
mount -t devpts devpts /dev/pts
for dir in /dev/shm /run /tmp; do mount -t tmpfs tmpfs "$dir"; done
mount --bind "$modules" /lib/modules
mkdir -p "$share"
mount --move /media "$share"
mount -t cgroup2 none /sys/fs/cgroup
ln -sfn /proc/self/fd /dev/fd
ip link set lo up
modprobe tun

echo "guest: $(uname -r) is up after $(cut -d' ' -f1 /proc/uptime) s"
(. "$share/command") 2>&1 </dev/null | tee "$share/output"
echo "${PIPESTATUS[0]}" >"$share/code"
echo "guest: ends after $(cut -d' ' -f1 /proc/uptime) s"
sync
echo o >/proc/sysrq-trigger
sleep 10
