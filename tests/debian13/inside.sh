#!/bin/sh
# Runs a script with a directory as its root: `unshare --mount --pid --fork sh inside.sh ROOT SCRIPT`.
# The first process of a process namespace: when it ends the kernel ends all others, and with the last of
# them goes the mount namespace and all that was mounted in it.
#
# The root is changed by pivot_root, not by chroot: in a chroot nobody makes user namespaces, and mount
# tables show paths that are not there.
set -eu
root=$1
script=$2

mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
fusectl=$root/sys/fs/fuse/connections
if [ -d "$fusectl" ] && ! mountpoint -q "$fusectl"; then
    mount -t fusectl none "$fusectl"
fi
mount --rbind /dev "$root/dev"   # /dev/fuse, loop devices, /dev/shm
mount -t tmpfs -o mode=755 run "$root/run"
mkdir -p "$root/run/lock"
mkdir -p "$root/.before"
cd "$root"
pivot_root . .before
cd /
umount -l /.before
rmdir /.before
set +e
# Not exec: a first process has to wait for orphans, which a shell does. A session of its own: the group of this
# process is one of the outer process namespace, which has no number here.
setsid --wait sh -c "$script"
exit $?
