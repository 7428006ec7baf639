#!/bin/sh
# Tries the Debian package in a root that has nothing of policyfs: `package.sh OLD.deb NEW.deb WHEEL SDIST`. Installs
# it, mounts, upgrades it under mounts that clients.py uses, goes back, removes and purges it. Then installs the wheel
# and the sdist as README.md says. Ends with 1 at the first thing that is wrong. photo.jpg has a location.
set -eu
old=$(readlink -f "$1")
new=$(readlink -f "$2")
wheel=$(readlink -f "$3")
sdist=$(readlink -f "$4")
here=$PWD
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "package.sh: $1" >&2
    exit 1
}

apt-get update -qq
apt-get install -y -qq --no-install-recommends "$old" man-db >/dev/null
cd /
policyfs --version
code=$(policyfs --version | sed 's/.*(//')
unshare --net dpkg -i "$new" >/dev/null # all that pip would fetch is in the package
[ "$(policyfs --version | sed 's/.*(//')" != "$code" ] || fail "both versions have the same code: nothing is exchanged"
for page in 1/policyfs 5/policyfs-policy 8/mount.fuse.policyfs; do
    man -w "${page%/*}" "${page#*/}" >/dev/null || fail "no page $page"
done
dpkg -i "$old" >/dev/null 2>&1
getent passwd policyfs-follow >/dev/null || fail "no user for audit follow"
[ -z "$(find /usr/lib/policyfs/code -name '*.pyc')" ] || fail "compiled modules among dpkg's files"

cat >/etc/policyfs/home.yaml <<END
apiVersion: policyfs/v1
kind: Policy
metadata: {name: home}
apps:
  gallery: {uid: 10011}
  uploader: {uid: 10012, grants: [media.location]}
rules:
  - {id: all, allow: [see, read], who: {app: any}, paths: "/**"}
  - {id: uploads, allow: [write, create, delete, attr], who: {app: uploader}, paths: "/inbox/**"}
  - {id: no-place, require: {redact: [location]}, raw_types: [text/plain], who: {not: {grant: media.location}}}
END
for name in media kept; do
    mkdir -p /srv/$name/inbox /mnt/$name
    chmod 700 /srv/$name
    echo words >/srv/$name/note.txt
    cp "$here/photo.jpg" /srv/$name/photo.jpg
    chmod 644 /srv/$name/*.*
done
mounted() {
    mount -t fuse.policyfs -o "policy=/etc/policyfs/home.yaml${2:-}" "/srv/$1" "/mnt/$1"
}
of_daemon() {
    policyfs status --json "/mnt/$1" | /usr/bin/python3 -c "import json, sys; print(json.load(sys.stdin)['$2'])"
}
followed() {
    left=$(of_daemon "$1" pid)
    policyfs mount --follow --policy /etc/policyfs/home.yaml "/srv/$1" "/mnt/$1"
    grep -qF " $(readlink -f /usr/lib/policyfs/current)/" "/proc/$(of_daemon "$1" pid)/maps" ||
        fail "the daemon of /mnt/$1 is not of the installed version"
    [ "$(of_daemon "$1" pid)" != "$left" ] || fail "no other daemon has followed at /mnt/$1"
    echo "take-over of /mnt/$1: $(of_daemon "$1" takeover)"
}
as_app() {
    setpriv --reuid 10011 --regid 10011 --clear-groups "$@"
}

# A mount goes on with its daemon when the package changes; on Linux 6.9 or newer a daemon of the installed version can
# follow one with a keeper. clients.py uses both kinds: /mnt/media over one change, /mnt/kept over both changes.
clients() {
    rm -rf "/tmp/$1" "/srv/$1/inbox/"*
    /usr/bin/python3 "$here/clients.py" run "/mnt/$1" "/tmp/$1" &
    checked "$1" "before the change"
}
checked() {
    /usr/bin/python3 "$here/clients.py" check "/srv/$1" "/tmp/$1" "/mnt/$1 $2" || fail "$2: the clients of /mnt/$1"
}
ended() {
    touch "/tmp/$1/stop"
    wait "$2" || fail "a client of /mnt/$1 failed"
}

mounted media ,no_keeper
[ "$(as_app cat /mnt/media/note.txt)" = words ] || fail "the app cannot read"
first=$(readlink -f /usr/lib/policyfs/current)
daemon=$(of_daemon media pid)
clients media
on_media=$!
kept=
case $(uname -r) in
[0-5].* | 6.[0-8][.-]*) echo "package.sh: nothing follows a mount on this kernel" ;;
*)
    kept=kept
    mounted kept
    clients kept
    on_kept=$!
    ;;
esac

wants=/etc/systemd/system/multi-user.target.wants
mkdir -p $wants
ln -s /usr/lib/systemd/system/policyfs-forward.service $wants/
touch /etc/policyfs/forward.yaml
dpkg -i "$new" >/dev/null 2>/tmp/told
grep -q "forward.yaml.*shipping.md" /tmp/told || fail "no word on forward.yaml"
[ ! -L $wants/policyfs-forward.service ] || fail "the unit that has gone is still enabled"
for name in media $kept; do checked $name "after the upgrade"; done
second=$(readlink -f /usr/lib/policyfs/current)
[ "$first" != "$second" ] || fail "the new version is not in use"
[ -d "$first" ] || fail "the version of a running mount was removed"
other_code() {
    of_daemon media problems | grep -q " is installed: " || fail "$1 command does not say that the mount has other code"
}
other_code "the new"
[ "$(of_daemon media pid)" = "$daemon" ] || fail "the upgrade has put another daemon in the place of one without a keeper"
if [ "$kept" ]; then
    followed kept
    checked kept "after the new version has followed"
fi

ended media $on_media
policyfs umount /mnt/media
mounted media ,no_keeper
dpkg-reconfigure policyfs
[ ! -e "$first" ] || fail "a version that nobody runs has stayed"

daemon=$(of_daemon media pid)
clients media
on_media=$!
dpkg -i "$old" >/dev/null 2>&1
for name in media $kept; do checked $name "after the downgrade"; done
[ "$(readlink -f /usr/lib/policyfs/current)" = "$first" ] || fail "the older version is not in use again"
[ "$(of_daemon media pid)" = "$daemon" ] || fail "the downgrade has put another daemon in the place"
other_code "the older"
if [ "$kept" ]; then
    followed kept
    checked kept "after the old version has followed"
    ended kept $on_kept
    policyfs umount /mnt/kept
fi
ended media $on_media
policyfs audit verify >/dev/null || fail "the older version does not read the newer one's trail"

# needrestart restarts services of which a library was replaced. A restart would take a mount away from its users, so
# it must leave the units that `policyfs unit` names to the administrator, and no other service. It finds the service
# of a process by the name of the control group.
apt-get install -y -qq --no-install-recommends needrestart >/dev/null
printf 'apiVersion: policyfs/v1\nkind: Site\nname: home\nstore: /srv/kept\npolicy: /etc/policyfs/home.yaml\n' >/home.yaml
printf 'mounts:\n  - {shared: true, at: /mnt/kept}\n' >>/home.yaml
mkdir /units && policyfs unit --to /units /home.yaml >/dev/null
[ -e /units/policyfs-home-shared.service ] || fail "policyfs unit gives another name: $(ls /units)"
groups=/sys/fs/cgroup/systemd
[ -e $groups/cgroup.procs ] || groups=/sys/fs/cgroup
leave_groups() {
    for service in policyfs-home-shared.service ssh.service; do
        while read -r pid; do echo "$pid" >$groups/cgroup.procs; done <$groups/$service/cgroup.procs
        rmdir $groups/$service
    done
}
mkdir $groups/policyfs-home-shared.service $groups/ssh.service
trap leave_groups EXIT
# shellcheck disable=SC2016 # for the inner shell
in_group='echo $$ >"$0/cgroup.procs" && exec "$@"'
sh -c "$in_group" $groups/policyfs-home-shared.service \
    policyfs mount --policy /etc/policyfs/home.yaml /srv/kept /mnt/kept
(sh -c "$in_group" $groups/ssh.service sleep 10000 &)
apt-get install -y -qq --reinstall libc6 >/dev/null
mkdir -p /run/systemd/system # needrestart asks if systemd runs
needrestart -r l -l >/tmp/needrestart 2>&1
rmdir /run/systemd/system
policyfs umount /mnt/kept
for service in "restarted:.*ssh.service.*deferred:" "deferred:.*policyfs-home-shared.service"; do
    tr '\n' ' ' </tmp/needrestart | grep -q "$service" || fail "needrestart: $(cat /tmp/needrestart)"
done
leave_groups
trap - EXIT
echo "needrestart: $(grep -A 9 restarted: /tmp/needrestart | tr -s '\n ' ' ')"

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
