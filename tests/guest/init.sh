#!/bin/sh
# The first process of the guest. Its root is this machine's, read-only; an overlay on the guest's own disk takes
# what is written. The command and its output are in the directory $exchange (from the kernel's command line).
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mount -t ext4 -o noatime /dev/ubda /mnt
root=/mnt/root
mkdir -p $root /mnt/upper /mnt/work /mnt/exchange
mkdir -m 1777 /mnt/tmp
mount -t hostfs -o "$exchange" exchange /mnt/exchange
exec >/mnt/exchange/console 2>&1
mount -t proc proc /proc
modules=/usr/lib/uml/modules/$(uname -r)
insmod "$modules/kernel/fs/overlayfs/overlay.ko"
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work root $root
cd $root || exit
mkdir -p usr/lib/modules exchange
ln -sfn "$modules" usr/lib/modules/
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm
ln -s /proc/self/fd dev/fd
mount -t devpts -o ptmxmode=666 pts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs run run
mkdir run/lock run/rpcbind
mount -t cgroup2 cgroup sys/fs/cgroup
mount --bind /mnt/tmp tmp
mount --bind /mnt/exchange exchange
ulimit -n 20000
chroot . modprobe -a fuse loop nfsv3 nfsv4 nfsd
mount -t fusectl fusectl sys/fs/fuse/connections
mount -t nfsd nfsd proc/fs/nfsd
ip link set lo up
hostname guest
chroot . /bin/sh /exchange/command >exchange/output 2>&1 </dev/null
echo $? >exchange/code
sync
echo o >/proc/sysrq-trigger
sleep 60
