#!/bin/sh
# Installs the Debian packages that a goal of the Makefile needs: `packages.sh python|run|demo|test|soak|bench|debian13|deb|image`.
# Asks dpkg first and calls apt-get only for what is missing, so that a second run costs nothing.
# An alternative (a|b) is the name of one package in different releases; a name with a ? behind it is one
# that only newer releases have, for what was part of another before.
set -eu

run="libfuse3-dev gcc libc6-dev pkg-config|pkgconf libmagic1|libmagic1t64"
demo="$run libimage-exiftool-perl ffmpeg imagemagick util-linux attr"
test="$demo libjpeg-turbo-progs sqlite3 rsync git tar unzip make file acl xfsprogs btrfs-progs e2fsprogs dosfstools systemd fuse3 bindfs sshfs mergerfs gocryptfs openssh-sftp-server exiv2 psmisc dcraw mkvtoolnix mediainfo qpdf poppler-utils ghostscript img2pdf libheif-examples libheif-plugin-x265? libavif-bin libjxl-tools libopenjp2-tools webp pngcheck flac lame opus-tools vorbis-tools groff-base zstd samba smbclient nginx-light|nginx chromium zsh fish rsyslog docker.io docker-cli? docker-compose podman uidmap bubblewrap locales"
soak="$test fio strace restic borgbackup borgmatic rclone syncthing minidlna transmission-daemon transmission-cli docker-registry user-mode-linux kmod iproute2 nfs-kernel-server lxc nodejs node-chokidar redis-server postgresql rsyslog-pgsql"
bench="$test fio dbench g++"
debian13="debootstrap git util-linux"
image="debootstrap podman util-linux"
deb="libfuse3-dev build-essential pkg-config|pkgconf dpkg-dev debhelper lintian git"

python=
if ! "$(dirname "$0")/python.sh" complete; then
    python="python3 python3-venv python3-dev"
fi

case "${1:-}" in
python) wanted= ;;
run) wanted=$run ;;
demo) wanted=$demo ;;
test) wanted=$test ;;
soak) wanted=$soak ;;
bench) wanted=$bench ;;
debian13) wanted=$debian13 ;;
deb) wanted=$deb ;;
image) wanted=$image ;;
*)
    echo "usage: packages.sh python|run|demo|test|soak|bench|debian13|deb|image" >&2
    exit 2
    ;;
esac

wanted="$wanted $python"

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "packages.sh: this system has no apt-get. Install what these Debian packages hold, then go on:" >&2
    echo "  $wanted" >&2
    exit 0
fi

# One call for all: dpkg reads its whole list for each.
all_installed=" $(dpkg-query -W -f='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | tr '\n' ' ')"
installed() {
    case $all_installed in
    *" $1 "*) return 0 ;;
    *) return 1 ;;
    esac
}

# Sets missing: the packages to install, as far as apt's lists know them.
find_missing() {
    missing=
    for entry in $wanted; do
        found=
        for name in $(echo "${entry%\?}" | tr '|' ' '); do
            if installed "$name"; then
                found=$name
            fi
        done
        if [ "${entry%\?}" != "$entry" ] && [ -z "$(apt-cache pkgnames "${entry%\?}")" ]; then
            found=never
        fi
        if [ -z "$found" ]; then
            entry=${entry%\?}
            missing="$missing ${entry%%|*}"
        fi
    done
}

find_missing
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "packages.sh: run as root, or install:$missing" >&2
    exit 1
fi
# shellcheck disable=SC2086 # a list of names
echo "installing $(set -- $missing && echo $#) Debian packages, which takes some minutes the first time"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Tests start servers by themselves, each where it is wanted: the packages start none.
no_servers=
if [ ! -e /usr/sbin/policy-rc.d ]; then
    no_servers=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >"$no_servers"
    chmod 755 "$no_servers"
fi
trap 'rm -f "$log" $no_servers' EXIT
apt-get update -qq >"$log" 2>&1 || echo "packages.sh: apt-get update failed; going on with the lists at hand" >&2
find_missing # once more: the lists may be new
# shellcheck disable=SC2086 # a list of names
if ! apt-get install -y -qq --no-install-recommends $missing >>"$log" 2>&1; then
    cat "$log" >&2
    echo "packages.sh: apt-get could not install:$missing" >&2
    exit 1
fi
