#!/bin/sh
# Tries the Debian package in a root that has nothing of policyfs: `package.sh OLD.deb NEW.deb WHEEL SDIST`. Installs
# it, mounts, upgrades it under the mount while an app reads, goes back, removes and purges it. Then installs the wheel
# and the sdist as README.md says. Ends with 1 at the first thing that is wrong.
set -eu
old=$(readlink -f "$1")
new=$(readlink -f "$2")
wheel=$(readlink -f "$3")
sdist=$(readlink -f "$4")
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "package.sh: $1" >&2
    exit 1
}

apt-get update -qq
apt-get install -y -qq --no-install-recommends "$old" >/dev/null
cd /
policyfs --version
for page in man1/policyfs.1 man5/policyfs-policy.5; do
    # minbase leaves manual pages out of the root, but not out of the package
    dpkg-deb --contents "$old" | grep "/usr/share/man/$page.gz" >/dev/null || fail "no page $page"
done
getent passwd policyfs-forward >/dev/null || fail "no user for policyfs-forward.service"
[ -z "$(find /usr/lib/policyfs/code -name '*.pyc')" ] || fail "compiled modules among dpkg's files"

mkdir -p /srv/media /mnt/media
chmod 700 /srv/media
echo words >/srv/media/note.txt
chmod 644 /srv/media/note.txt
cat >/etc/policyfs/home.yaml <<END
apiVersion: policyfs/v1
kind: Policy
metadata: {name: home}
apps:
  gallery: {uid: 10011}
rules:
  - {id: all, allow: [see, read], who: {app: any}, paths: "/**"}
END
mount -t fuse.policyfs -o policy=/etc/policyfs/home.yaml /srv/media /mnt/media
as_app() {
    setpriv --reuid 10011 --regid 10011 --clear-groups "$@"
}
[ "$(as_app cat /mnt/media/note.txt)" = words ] || fail "the app cannot read"
first=$(readlink -f /usr/lib/policyfs/current)

as_app sh -c 'while [ ! -e /tmp/enough ]; do
    cat /mnt/media/note.txt >/dev/null && ls /mnt/media >/dev/null || echo failed; echo done; done' >/tmp/app.log 2>&1 &
app=$!
dpkg -i "$new" >/dev/null
touch /tmp/enough
wait $app
grep -q done /tmp/app.log || fail "the app did nothing during the upgrade"
! grep -qv done /tmp/app.log || fail "calls failed during the upgrade: $(grep -v done /tmp/app.log | head -n 3)"
second=$(readlink -f /usr/lib/policyfs/current)
[ "$first" != "$second" ] || fail "the new version is not in use"
[ -d "$first" ] || fail "the version of a running mount was removed"
policyfs status /mnt/media >/dev/null || fail "the new command does not understand the running mount"
[ "$(as_app cat /mnt/media/note.txt)" = words ] || fail "the app cannot read after the upgrade"

policyfs umount /mnt/media
mount -t fuse.policyfs -o policy=/etc/policyfs/home.yaml /srv/media /mnt/media
dpkg-reconfigure policyfs
[ ! -e "$first" ] || fail "a version that nobody runs has stayed"

dpkg -i "$old" >/dev/null 2>&1
[ "$(readlink -f /usr/lib/policyfs/current)" = "$first" ] || fail "the older version is not in use again"
[ "$(as_app cat /mnt/media/note.txt)" = words ] || fail "the app cannot read after the downgrade"
policyfs status /mnt/media >/dev/null || fail "the older command does not understand the newer mount"
policyfs audit verify >/dev/null || fail "the older version does not read the newer one's trail"

apt-get remove -y -qq policyfs >/dev/null
[ "$(as_app cat /mnt/media/note.txt)" = words ] || fail "the removal took the mount away"
umount /mnt/media
apt-get purge -y -qq policyfs >/dev/null
apt-get autoremove --purge -y -qq >/dev/null # what it needed: the wheel is tried without
[ -d /var/log/policyfs ] || fail "the purge took the trail away"
for gone in /usr/bin/policyfs /usr/sbin/mount.fuse.policyfs /usr/lib/policyfs; do
    [ ! -L "$gone" ] && [ ! -e "$gone" ] || fail "$gone has stayed"
done

apt-get install -y -qq --no-install-recommends gcc pkg-config libfuse3-dev python3-dev python3-venv libmagic1 >/dev/null
for built in "$wheel" "$sdist"; do
    rm -rf /opt/policyfs
    python3 -m venv /opt/policyfs
    /opt/policyfs/bin/pip install --quiet --disable-pip-version-check "$built"
    /opt/policyfs/bin/policyfs mount --policy /etc/policyfs/home.yaml /srv/media /mnt/media
    [ "$(as_app cat /mnt/media/note.txt)" = words ] || fail "the app cannot read with $built"
    /opt/policyfs/bin/policyfs umount /mnt/media
done
echo "package.sh: installed, upgraded, downgraded, removed and purged"
