#!/bin/sh
# Builds dist/policyfs-image.tar, a container image for `docker load` and `podman load`: a new Debian of this release
# with the newest package of dist (`make deb`). Needs root. docs/appliances.md says how the image is run.
set -eu
cd "$(dirname "$0")/.."
dist=$(readlink -f dist)
package=$(ls -t "$dist"/policyfs_*.deb | head -n 1)
version=$(dpkg-deb --field "$package" Version | tr '+~' '--')
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)

scratch=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
debootstrap --variant=minbase "$release" "$root" "$mirror" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    exit 1
}

# What belongs to this machine is gone when the image is packed: proxies, and names of hosts.
own=$root/etc/apt/apt.conf.d/90host
apt-config dump | grep '^Acquire::[a-z]*::Proxy' >"$own" || true
cp /etc/resolv.conf /etc/hosts "$root/etc"
cp "$package" "$root/policyfs.deb"
unshare --mount --propagation private sh -eu -c '
    mount -t proc proc "$1/proc"
    exec chroot "$1" env DEBIAN_FRONTEND=noninteractive sh -euc "
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends ./policyfs.deb
        apt-get clean"' sh "$root" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    exit 1
}
rm -rf "$own" "$root/policyfs.deb" "$root"/var/lib/apt/lists/* "$root"/var/cache/*/* "$root"/var/log/*
: >"$root/etc/resolv.conf"
: >"$root/etc/hosts"

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
tar --create --sort=name --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --directory "$root" --file "$scratch/root.tar" .
engine() {
    podman --root "$scratch/store" --runroot "$scratch/run" --storage-driver vfs "$@"
}
engine import --quiet --change 'CMD ["policyfs", "doctor"]' "$scratch/root.tar" "localhost/policyfs:$version" >/dev/null
engine tag "localhost/policyfs:$version" docker.io/library/policyfs:latest
rm -f "$dist/policyfs-image.tar"
engine save --quiet --output "$dist/policyfs-image.tar" docker.io/library/policyfs:latest
echo policyfs-image.tar
