#!/bin/sh
# boot.sh ROOT CHECKOUT SETUP: makes a root in memory, runs the script SETUP in it, and becomes systemd, or the
# script /init if SETUP has made one. To be started in mount, process and cgroup namespaces of its own. /usr is this machine's. $BASE: where Python is.
set -e
root=$1 checkout=$2 setup=$3
mount -t tmpfs -o mode=755 root "$root"
cp "$setup" "$root/setup"
cd "$root"
mkdir -p usr etc/systemd/system var/log var/lib var/cache run tmp proc sys dev root srv
for name in bin lib lib64 sbin; do
    ln -s "usr/$name" "$name"
done
mount --rbind /usr usr
mount -o remount,bind,ro usr
cp -P /etc/ld.so.cache /etc/passwd /etc/group /etc/nsswitch.conf etc/
[ ! -d /etc/alternatives ] || cp -a /etc/alternatives etc/
ln -s ../usr/lib/os-release etc/os-release
mkdir etc/systemd/journald.conf.d
printf "[Journal]\nReadKMsg=no\n" >etc/systemd/journald.conf.d/own.conf
echo 0123456789abcdef0123456789abcdef >etc/machine-id
# What concerns the kernel that this machine shares, and what nobody uses here.
for unit in systemd-sysctl systemd-binfmt systemd-remount-fs systemd-modules-load systemd-sysusers systemd-logind \
    systemd-udevd systemd-udev-trigger systemd-random-seed systemd-update-utmp systemd-tmpfiles-setup-dev \
    systemd-tmpfiles-setup systemd-tmpfiles-clean console-getty dbus kmod-static-nodes systemd-journal-flush systemd-binfmt; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done
for unit in tmp dev-hugepages dev-mqueue sys-kernel-debug sys-kernel-tracing sys-fs-fuse-connections sys-kernel-config; do
    ln -sf /dev/null "etc/systemd/system/$unit.mount"
done
ln -s /usr/lib/systemd/system/multi-user.target etc/systemd/system/default.target
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t fusectl fusectl sys/fs/fuse/connections
mount -t tmpfs -o mode=755 run run
mount -t tmpfs tmp tmp
# Read-only, and behind the file systems in memory: the checkout may lie in /tmp, which a boot empties.
for one in "$checkout" "$BASE"; do
    case $one in
    /usr | /usr/*) ;;
    *) mkdir -p "$root$one" && mount --bind "$one" "$root$one" && mount -o remount,bind,ro "$root$one" ;;
    esac
done
mount -t tmpfs cgroup sys/fs/cgroup
mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
if ! { mount -t cgroup -o none,name=policyfs-test cgroup sys/fs/cgroup/systemd &&
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified; } 2>/dev/null; then
    umount -R sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
mkdir .before
pivot_root . .before
cd /
umount -l /.before
mount --make-rshared / # as systemd does, except in a container
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
sh /setup
export container=policyfs-test
[ ! -e /init ] || exec sh /init
exec /usr/lib/systemd/systemd --system --log-target=console --show-status=0
