#!/bin/sh
# Times the first try of an ordinary user, in a root without policyfs: `first_try.sh PACKAGE`. From the package to a
# change that she has looked at and committed, in five commands; she has no other rights than adduser gives. Ends with
# 1 at the first thing that is wrong.
set -eu
package=$(readlink -f "$1")
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "first_try.sh: $1" >&2
    exit 1
}

apt-get update -qq
apt-get install -y -qq --no-install-recommends adduser >/dev/null
adduser --quiet --disabled-password --gecos "" anna
mknod -m 666 /fuse c 10 229 # as udev makes it
mount --bind /fuse /dev/fuse
begin=$(date +%s)
apt-get install -y -qq --no-install-recommends uidmap "$package" >/dev/null
installed=$(date +%s)

cat >/home/anna/first.sh <<'END'
set -eu
mkdir -p code/src
echo secret >code/.env
echo old >code/src/main
cd code
policyfs run --try --allow-read src --allow-write src . -- sh -c 'cat .env; echo new >src/main; echo more >src/more'
policyfs try diff
policyfs try commit
END
said=$(su - anna -c "sh first.sh" 2>&1) || fail "$said"
committed=$(date +%s)
echo "$said"
case $said in *secret*) fail "the command has read what it was not given" ;; esac
[ "$(cat /home/anna/code/src/main /home/anna/code/src/more)" = "new
more" ] || fail "the changes are not in the store"
[ -z "$(su - anna -c 'policyfs try list')" ] || fail "a layer has stayed"
! pgrep -u anna || fail "a process has stayed"
: >/etc/subuid
! said=$(su - anna -c "cd code && policyfs run --try --allow-read . . -- true" 2>&1) || fail "no subordinate ids: $said"
case $said in *"/etc/subuid"*) ;; *) fail "not the remedy: $said" ;; esac
echo "first_try.sh: $(. /etc/os-release && echo "$PRETTY_NAME"): the package $((installed - begin)) s," \
    "then to the commit $((committed - installed)) s"
deluser --quiet --remove-home anna 2>/dev/null
umount /dev/fuse
