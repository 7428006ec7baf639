#!/bin/sh
# Times the first minutes of a newcomer, in a root of Debian 13 without policyfs: `first_minutes.sh PACKAGE PHOTO`.
# From the package to containers that see what the policy lets them, and back. PHOTO has a place. The compose file is
# written as the makers of Immich, Jellyfin and Syncthing tell their users to; small images stand in for theirs. Ends
# with 1 at the first thing that is wrong.
set -eu
package=$(readlink -f "$1")
photo=$(readlink -f "$2")
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "first_minutes.sh: $1" >&2
    exit 1
}

# ---------------------------------------------------------------- the machine, with Docker and a library

apt-get update -qq
apt-get install -y -qq --no-install-recommends docker.io docker-cli docker-compose busybox-static >/dev/null
mount --make-rshared / # as systemd does
sh ./dockerd.sh >/var/log/dockerd 2>&1 &
tries=0
until docker info >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { tail -n 20 /var/log/dockerd >&2; fail "no Docker"; }
    sleep 1
done

mkdir -p /srv/media/photos /srv/media/movies /srv/app /image/bin
cp "$photo" /photo.jpg
cp /bin/busybox /image/bin
for name in sh ls cat mkdir touch sleep; do ln -s busybox /image/bin/$name; done
# Immich looks at each start whether it can write each of its directories.
cat >/image/immich <<'END'
#!/bin/sh
set -e
for name in upload library thumbs encoded-video profile backups; do
    mkdir -p /data/$name
    echo 1 >/data/$name/.immich
done
echo started
exec sleep 100000
END
chmod 755 /image/immich
for name in ghcr.io/immich-app/immich-server:release ghcr.io/immich-app/immich-machine-learning:release \
    valkey/valkey:8 ghcr.io/immich-app/postgres:14 jellyfin/jellyfin syncthing/syncthing; do
    command='["sleep", "100000"]'
    [ "${name##*/}" != immich-server:release ] || command='["/immich"]'
    tar -C /image -c . | docker import --change "CMD $command" - "$name" >/dev/null
done

cd /srv/app
cat >compose.yaml <<'END'
name: home
services:
  immich-server:
    container_name: immich_server
    image: ghcr.io/immich-app/immich-server:${IMMICH_VERSION:-release}
    volumes:
      - ${UPLOAD_LOCATION}:/data
      - /etc/localtime:/etc/localtime:ro
    env_file:
      - .env
    ports:
      - '2283:2283'
    depends_on:
      - redis
      - database
    restart: always
    healthcheck:
      disable: false
  immich-machine-learning:
    container_name: immich_machine_learning
    image: ghcr.io/immich-app/immich-machine-learning:${IMMICH_VERSION:-release}
    volumes:
      - model-cache:/cache
    env_file:
      - .env
    restart: always
  redis:
    container_name: immich_redis
    image: docker.io/valkey/valkey:8
    restart: always
  database:
    container_name: immich_postgres
    image: ghcr.io/immich-app/postgres:14
    environment:
      POSTGRES_PASSWORD: ${DB_PASSWORD}
      POSTGRES_USER: ${DB_USERNAME}
    volumes:
      - ${DB_DATA_LOCATION}:/var/lib/postgresql/data
    shm_size: 128mb
    restart: always
  jellyfin:
    image: jellyfin/jellyfin
    container_name: jellyfin
    user: 1000:1000
    ports:
      - 8096:8096/tcp
      - 7359:7359/udp
    volumes:
      - ./jellyfin/config:/config
      - ./jellyfin/cache:/cache
      - type: bind
        source: /srv/media/movies
        target: /media
        read_only: true
    restart: 'unless-stopped'
    extra_hosts:
      - 'host.docker.internal:host-gateway'
  syncthing:
    image: syncthing/syncthing
    container_name: syncthing
    hostname: my-syncthing
    environment:
      - PUID=1000
      - PGID=1000
    volumes:
      - ./syncthing:/var/syncthing
      - /srv/media:/srv/media
    ports:
      - 8384:8384 # Web UI
      - 22000:22000/tcp # TCP file transfers
      - 22000:22000/udp # QUIC file transfers
      - 21027:21027/udp # Receive local discovery broadcasts
    restart: unless-stopped
volumes:
  model-cache:
END
cat >.env <<'END'
# The location where your uploaded files are stored
UPLOAD_LOCATION=/srv/media/photos
DB_DATA_LOCATION=./postgres
IMMICH_VERSION=release
DB_PASSWORD=postgres
DB_USERNAME=postgres
END
apps() {
    docker compose "$@" 2>>/srv/compose.log || { tail -n 20 /srv/compose.log >&2; fail "docker compose $*"; }
}
started() {
    tries=0
    until docker logs immich_server 2>&1 | grep -q started; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || { docker logs immich_server >&2; fail "Immich does not start $1"; }
        sleep 1
    done
}
apps up --detach # as it was before policyfs
started "without policyfs"
apps down
cp /photo.jpg /srv/media/photos/library/beach.jpg
cp /photo.jpg /srv/media/movies/poster.jpg
chown -R 1000:1000 /srv/media/movies
find /srv /etc/policyfs -type f 2>/dev/null | grep -v compose.log | sort | xargs sha256sum >/before

# ---------------------------------------------------------------- the newcomer

begun=$(date +%s)
step() {
    echo "first_minutes.sh: $(($(date +%s) - begun)) s: $1"
}
apt-get install -y -qq --no-install-recommends "$package" >/dev/null
step "the package is installed"
yes '' | head -n 50 | policyfs init
# As init says at its end: no user of the machine reaches the library past the mounts.
chown root: /srv/media
chmod 700 /srv/media
step "policyfs init is answered, the mounts are there"
apps up --detach
started "in its mount"
docker exec immich_server cat /data/library/beach.jpg >/seen.jpg
step "the gallery sees its photo"

# ---------------------------------------------------------------- what each container may do

cmp /seen.jpg /photo.jpg || fail "the gallery reads another photo"
docker exec immich_server touch /data/upload/new.jpg || fail "the gallery cannot add"
docker exec immich_server ls /srv/media 2>/dev/null && fail "the gallery has the store"
as_jellyfin="docker exec --user 1000:1000 jellyfin"
$as_jellyfin cat /media/poster.jpg | cmp - /photo.jpg || fail "the player does not see its poster"
! $as_jellyfin touch /media/new 2>/dev/null || fail "the player writes"
rm /srv/media/photos/upload/new.jpg
docker exec --user 1000:1000 syncthing cat /srv/media/photos/library/beach.jpg | cmp - /photo.jpg ||
    fail "the sync job does not read the photo unchanged"
policyfs audit summary
policyfs status --check || fail "not well"

# ---------------------------------------------------------------- and back

apps down
policyfs init --undo /etc/policyfs/media.init
step "undone"
left=$(find /etc/policyfs /run/policyfs/mounts -mindepth 1)
[ -z "$left" ] || fail "init --undo left $left"
! grep -q policyfs /proc/mounts || fail "a mount has stayed: $(grep policyfs /proc/mounts)"
sha256sum --quiet --check /before || fail "a file has changed"
apps up --detach
started "after the undo"
apps down
apt-get purge -y -qq policyfs >/dev/null
kill %1 2>/dev/null || true
echo "first_minutes.sh: from the package to the gallery and back"
