#!/bin/sh
# podman.sh: makes the settings of podman, and /image.tar, an image to be run with this machine's /usr.
set -e
mkdir -p /etc/containers /image/usr
mkdir -p -m 1777 /var/tmp
chmod 1777 /tmp
cat >/etc/containers/containers.conf <<EOF
[containers]
netns = "none"
default_ulimits = ["nofile=10000:10000", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
EOF
cat >/etc/containers/storage.conf <<EOF
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
EOF
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
for name in bin lib lib64 sbin; do ln -s usr/$name /image/$name; done
tar -C /image -cf /image.tar .
