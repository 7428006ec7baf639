#!/bin/sh
# dockerd.sh: becomes a Docker daemon without networks, in a machine that boot.sh has made.
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ -e /var/run ] || ln -s /run /var/run
devices=/sys/fs/cgroup/devices # the only controller of version 1 that it must have
if awk '$1 == "devices" && $2 {found = 1} END {exit !found}' /proc/cgroups && [ ! -e $devices ]; then
    mkdir $devices
    mount -t cgroup -o devices cgroup $devices
fi
[ $# -gt 0 ] || set -- --storage-driver=vfs --iptables=false --ip6tables=false --bridge=none
exec dockerd "$@"
