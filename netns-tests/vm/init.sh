#!/bin/bash
# The first process of a guest: makes the root writable in memory, runs the command, keeps its output and exit code, and turns
# the guest off. The kernel hands over what it does not know itself in the environment: share is the shared directory.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
if [ "${1:-}" != inside ]; then
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  insmod "/usr/lib/uml/modules/$(<"$share/version")/kernel/fs/overlayfs/overlay.ko"
  mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/upper /mnt/work /mnt/root
  mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
  mount -t devtmpfs dev /mnt/root/dev
  exec switch_root /mnt/root "$share/init" inside 2>/dev/null # which takes /proc and /sys along
fi

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /dev/shm /run /tmp; do # the shared directory may be below /tmp: it is bound to /media before
  [ "$dir" != /tmp ] || { mount -t hostfs -o "$share" none /media; }
  mount -t tmpfs tmpfs "$dir"
done
mkdir -p "$share"
mount --move /media "$share"
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /lib/modules
mount --bind /usr/lib/uml/modules /lib/modules
exec 2>&1
ln -sfn /proc/self/fd /dev/fd
ip link set lo up

echo "guest: $(uname -r) is up after $(cut -d' ' -f1 /proc/uptime) s"
(. "$share/command") 2>&1 </dev/null | tee "$share/output"
echo "${PIPESTATUS[0]}" >"$share/code"
echo "guest: ends after $(cut -d' ' -f1 /proc/uptime) s"
sync
echo o >/proc/sysrq-trigger
sleep 10
