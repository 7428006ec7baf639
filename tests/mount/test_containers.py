"""Containers of docker compose and podman that live on: no lister ever finds a library that is empty or
shorter, whatever happens to store and daemons, and each is answered again without a restart.

The image is this machine's /usr. Each app, and root in a container, lists its library all the time.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.booted import CHECKOUT, POLICYFS, Booted, booted
from tests.support.machine.counts import SOAK, count
from tests.support.machine.documents import blocks
from tests.support.machine.processes import wait_for

pytestmark = pytest.mark.night

OWN: Final = shlex.quote(str(CHECKOUT))
"""The checkout as a word of a shell."""
COMMAND: Final = shlex.quote(str(POLICYFS))
SITE: Final = "/etc/policyfs/home.site.yaml"
STORE: Final = "/srv/media"
HEAL_S: Final = 30
UNDISTURBED_S: Final = 0.5
"""How long a wrong listing has time to appear while nothing is to happen."""
PAUSE_S: Final = count(30, 10) / 1000
"""Of a lister between two listings."""
ANNA: Final = 1500
BASE: Final = [] if sys.base_prefix.startswith("/usr") else [sys.base_prefix]
"""Where Python is, if not below /usr."""
IMAGE: Final = os.environ.get("POLICYFS_IMAGE")
"""The archive of `make image`; without it policyfs runs from this machine's /usr and the checkout."""
LISTERS: Final = ("tv", "tv-purge", "photos", "photos-root", "podman", "rootless", "keep-id")

SETUP: Final = f"""\
mkdir -p /srv/media /srv/disk /srv/other /srv/app/logs /home/anna /run/user/{ANNA}
mkdir -p /etc/policyfs
mount -t tmpfs -o mode=700 disk /srv/disk
mkdir -m 755 /srv/disk/DCIM /srv/disk/Documents /srv/disk/Films /srv/disk/.stfolder
for name in DCIM Documents Films; do echo $name >/srv/disk/$name/file; done
mount -t tmpfs -o mode=700 other /srv/other
mkdir /srv/other/DCIM
mount --bind /srv/disk {STORE} # the store has been mounted before
{COMMAND} accept {STORE}
umount {STORE}
cat >/etc/policyfs/home.yaml <<END
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: home}}
apps: {{tv: {{uid: 1000}}, photos: {{uid: 10012}}, anna: {{uid: {ANNA}}}}}
rules:
  - {{id: tv, allow: [see, read], who: {{app: tv}}, paths: ["/.stfolder", "/DCIM/***", "/Films/***"]}}
  - {{id: photos, allow: [see, read, write], who: {{app: photos}}, paths: ["/DCIM/***", "/Documents/***"]}}
  - {{id: anna, allow: [see, read], who: {{app: anna}}, paths: ["/DCIM/***"]}}
END
cat >{SITE} <<END
apiVersion: policyfs/v1
kind: Site
name: home
store: {STORE}
policy: /etc/policyfs/home.yaml
mounts:
  - {{app: tv, container: [tv, podman], path: /data/media}}
  - {{app: photos, container: photos, path: /data/mount, directories: {{media: /DCIM, papers: /Documents}}}}
  - {{app: anna, at: /run/anna/media}}
END
cd /srv/app
cp {OWN}/tests/support/programs/lister.py {OWN}/tests/support/programs/purger.py .
sed -i "s/^PAUSE_S = 0.01/PAUSE_S = {PAUSE_S}/" lister.py
mkdir -m 777 logs/state
for name in {" ".join(LISTERS)}; do touch logs/$name; done
chmod a+rw logs/*
cp -a {OWN}/policyfs /next
touch /next/more.py
cat >compose.yaml <<'END'
services:
  tv:
    container_name: tv
    image: own
    user: "1000:1000"
    network_mode: none
    restart: always
    volumes: ["/usr:/usr:ro", "./lister.py:/lister.py:ro", "./purger.py:/purger.py:ro", "./logs:/logs"]
    command: "sh -c 'python3 -I /purger.py /data/media /logs/state >>/logs/tv-purge & \\
      exec python3 -I /lister.py DCIM,Films /data/media >>/logs/tv'"
    healthcheck: {{test: [CMD, ls, /data/media], interval: 1s, retries: 1}}
  photos:
    container_name: photos
    image: own
    environment: {{PUID: 1001, PGID: 1001}}
    network_mode: none
    restart: always
    volumes: ["${{HERE}}/usr:/usr:ro", "./lister.py:/lister.py:ro", "./logs:/logs"]
    command: "sh -c 'python3 -I /lister.py DCIM,Documents /data/mount >>/logs/photos-root & \\
      exec setpriv --reuid $$PUID --regid $$PGID --clear-groups \\
      python3 -I /lister.py file /data/media >>/logs/photos'"
  podman: {{image: own, network_mode: none, profiles: [podman]}}
END
echo 'anna:x:{ANNA}:{ANNA}::/home/anna:/bin/sh' >>/etc/passwd
echo 'anna:x:{ANNA}:' >>/etc/group
echo anna:300000:65536 | tee /etc/subuid >/etc/subgid
chown {ANNA}:{ANNA} /home/anna /run/user/{ANNA}
sh {OWN}/tests/support/machine/podman.sh
cat >/anna <<END
cd /home/anna
exec setpriv --reuid {ANNA} --regid {ANNA} --clear-groups \\
    env HOME=/home/anna XDG_RUNTIME_DIR=/run/user/{ANNA} podman "\\$@"
END
cat >/init <<END
sh {OWN}/tests/support/machine/dockerd.sh >/var/log/dockerd 2>&1 &
while sleep 1; do :; done
END
"""
COMPOSE: Final = "cd /srv/app; docker-compose -f compose.yaml -f policyfs.compose.yaml"
OLD: Final = " is installed: unmount, and mount again"
PID: Final = "docker inspect --format '{{.State.Pid}}'"
KILL_DAEMONS: Final = """\
for pid in $(pgrep --full 'policyfs[.]cli[.]m'); do
    grep --quiet launch /proc/$pid/comm || kill -KILL $pid
done || true # some end with those before them
"""
STOP: Final = """\
docker rm --force $(docker ps --all --quiet)
podman rm --force --all --time 0
sh /anna rm --force --all --time 0
rmdir /sys/fs/cgroup/*/docker /sys/fs/cgroup/*/libpod_parent
"""


class Home:
    """The machine with its engines, and what its listers have seen."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script in the machine. Return all that it prints."""
        return self.machine("sh", "-c", script, check=check)

    def policyfs(self, *words: str, check: bool = True) -> str:
        return self.machine(str(POLICYFS), *words, SITE, check=check)

    def lines(self, lister: str) -> list[str]:
        """All answers that a lister has printed."""
        text = (self.machine.root / "srv/app/logs" / lister).read_text()
        return [line.partition(" ")[2] for line in text.splitlines()]

    def latest(self) -> dict[str, str]:
        """The last answer that each lister got; none before its first."""
        return {name: (self.lines(name) or [""])[-1] for name in LISTERS}

    def wait(self, answer: str) -> None:
        """Wait until this is the last answer of every lister."""
        self.wait_for(lambda: set(self.latest().values()) == {answer}, f"all have {answer}")
        self.check()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition. Print what the engines say if it does not come."""
        try:
            wait_for(condition, what, HEAL_S)
        except BaseException:
            print(self.latest(), {name: len(self.lines(name)) for name in LISTERS})
            print(self.sh("docker ps -a; podman ps -a; sh /anna ps -a; ps axfww", check=False))
            print(self.sh("tail -n 40 /var/log/dockerd", check=False))
            raise

    def nobody_is_answered(self) -> None:
        """Wait until all have the error of the placeholder, and look for a while: there is no listing."""
        self.wait("error 107")
        before = {name: len(self.lines(name)) for name in LISTERS}
        time.sleep(UNDISTURBED_S)  # nothing is to happen
        new = [line for name, count in before.items() for line in self.lines(name)[count:]]
        assert "ok" not in new, new
        self.check()

    def check(self) -> None:
        """No listing was empty, or shorter than the app's, and nothing was taken for deleted."""
        seen = [f"{name}: {line}" for name in LISTERS for line in self.lines(name)]
        assert not [line for line in seen if "SHORT" in line or "DELETED" in line], seen

    def plug(self, disk: str) -> None:
        """Mount a disk at the store's path, in place of the one that is there."""
        self.sh(f"umount --lazy {STORE} 2>/dev/null; mount --bind {disk} {STORE}")

    def start(self) -> None:
        """Start all containers as users do, with what `policyfs compose` prints."""
        self.sh(f"{COMPOSE} up --detach")
        options = self.sh("grep '^# podman: ' /srv/app/policyfs.compose.yaml").strip().partition(": ")[2]
        rootless = options.replace("/run/policyfs/mounts/home/tv", "/run/anna")
        here = "-v /usr:/usr:ro -v /srv/app/lister.py:/lister.py:ro -v /srv/app/logs:/logs"
        run = "run --detach --restart always"
        for engine, name, more in (
            ("podman", "podman", f"{options} --user 1000:1000"),
            ("sh /anna", "rootless", rootless),
            ("sh /anna", "keep-id", f"{rootless} --userns=keep-id:uid=1000,gid=1000"),
        ):
            lister = f"exec python3 -I /lister.py DCIM /data/media >>/logs/{name}"
            self.sh(f'{engine} {run} --name {name} {here} {more} localhost/own sh -c "{lister}"')

    def health(self) -> str:
        """What docker says of the container tv."""
        return self.sh("docker inspect --format '{{.State.Health.Status}}' tv")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    setup = tmp_path / "setup"
    setup.write_text(SETUP)
    with booted(tmp_path, setup, "run/docker.sock") as machine:
        home = Home(machine)
        has_image = lambda: "sha256:" in home.sh("docker import /image.tar own", check=False)  # noqa: E731
        wait_for(has_image, "dockerd answers", HEAL_S)
        for podman in ("podman", "sh /anna"):
            home.sh(f"{podman} import /image.tar localhost/own")
        assert "has a variable" in home.sh(f"{COMMAND} compose {SITE} /srv/app/compose.yaml", check=False)
        config = "cd /srv/app; echo HERE= >.env; docker-compose --profile podman config"
        home.sh(f"{config} | {COMMAND} compose {SITE} /dev/stdin >policyfs.compose.yaml")
        if home.sh("head -c 2 $(command -v docker-compose)") == "#!":  # 1.x, as the file itself says
            home.sh("sed -i /create_host_path/d /srv/app/policyfs.compose.yaml")
        try:
            yield home
        finally:
            home.sh(STOP, check=False)


@pytest.mark.soak
def test_policyfs_in_a_container_beside_its_users(home: Home) -> None:
    """docs/appliances.md: its users find the mounts, errors while it is stopped, and the mounts again."""
    home.plug("/srv/disk")
    [text] = [block.text for block in blocks(CHECKOUT / "docs/appliances.md")]
    text = text.replace("/mnt/tank/policyfs/etc", "/etc/policyfs").replace("/mnt/tank/media", STORE)
    if IMAGE:
        home.sh(f"docker load --input {IMAGE}")
        alone = home.sh("docker run --rm --network none policyfs", check=False)
        for missing in ("bad   fuse ", "bad   capability ", "off   callers ", "off   propagation "):
            assert missing in alone
    else:
        text = text.replace("image: policyfs", "image: own").replace("policyfs up", f"command {COMMAND} up")
        text += "".join(f"      - {path}:{path}:ro\n" for path in ("/usr", CHECKOUT, *BASE))
    (home.machine.root / "srv/app/policyfs.yaml").write_text(f'version: "2.4"\n{text}')
    home.sh("sed -i /anna/d /etc/policyfs/home.site.yaml; mkdir -p /run/policyfs")
    compose = "cd /srv/app; docker-compose -f policyfs.yaml"
    home.sh(f"{compose} up --detach")
    wait_for(lambda: "photos: up" in home.sh("docker logs app_policyfs_1"), "the mounts are up", HEAL_S)
    own = f"docker exec app_policyfs_1 {'policyfs' if IMAGE else COMMAND}"
    assert home.sh(f"{own} status --check").count(": well") == 2
    assert "ok    propagation " in home.sh(f"{own} doctor")
    home.sh(f"{COMPOSE} up --detach")
    for stop in ("kill", "stop --timeout 1"):
        wait_for(lambda: all(home.lines(name)[-1:] == ["ok"] for name in ("tv", "photos")), "listed", HEAL_S)
        home.sh(f"{compose} {stop}")
        wait_for(lambda: home.lines("tv")[-1] == "error 107", "errors", HEAL_S)
        home.sh(f"{compose} up --detach")
    wait_for(lambda: all(home.lines(name)[-1:] == ["ok"] for name in ("tv", "photos")), "listed", HEAL_S)
    home.check()


FILMS: Final = f"""\
cat >/opt/films/compose.yaml <<'END'
version: "2.4"
services:
  films:
    image: own
    network_mode: none
    volumes: ["/usr:/usr:ro", "{STORE}/Films:/films:ro"]
    command: sleep 1000
    stop_signal: SIGKILL # `sleep` as process 1 ignores SIGTERM
END
"""
"""Writes the compose file of a service with films."""

INIT_SETUP: Final = f"""\
mkdir -p /opt/films /etc/init
{FILMS}cd /opt/films
docker-compose up --detach
cd /
run="run --detach --network none -v /usr:/usr:ro"
docker volume create --opt type=none --opt o=bind --opt device={STORE}/DCIM photos
docker $run --name volume -v photos:/photos own sleep 1000
docker $run --name apart -v /srv/app:/app own sleep 1000
podman $run --name above -v /srv:/data localhost/own sleep 1000
podman $run --name alias -v /srv/disk/Films:/films localhost/own sleep 1000
"""


def test_init_finds_the_containers_that_run(home: Home) -> None:
    """Those of the compose file get a mount. Others with the library are named, also by another path."""
    home.plug("/srv/disk")
    home.sh(INIT_SETUP)
    home.sh(f"cd {STORE}/DCIM; setpriv --reuid {ANNA} --clear-groups sleep 1000 >/dev/null 2>&1 &")
    home.sh(f"echo '[Service]\nExecStart=restic backup {STORE}' >/etc/systemd/system/backup.service")
    said = home.sh(f"cd /; yes '' | head -n 20 | {COMMAND} init --to /etc/init {STORE}")
    assert "reading /opt/films/compose.yaml, from which containers run: films_films_1\n" in said
    assert "note: user anna works in /srv/media/DCIM" in said
    assert "note: backup.service names it in its settings: ExecStart=restic backup /srv/media: past" in said
    notes = [line.split()[3] for line in said.splitlines() if "it still reaches the library directly" in line]
    assert sorted(notes) == ["above", "alias", "volume"], said
    assert 'container: "films"' in home.sh("cat /etc/init/media.site.yaml")
    # The usual command, in its directory, is all that it takes for the mount, and for the way back.
    films = "cd /opt/films; docker-compose"
    home.sh(f"{films} up --detach")
    inside = f"{films} exec -T films"
    assert home.sh(f"{inside} ls /films") == home.sh(f"ls {STORE}/Films")
    assert " fuse.policyfs ro," in home.sh(f"{inside} grep ' /films ' /proc/mounts")
    assert "Read-only file system" in home.sh(f"{inside} touch /films/new", check=False)
    # A habit puts it back on the library, past policyfs. `status --check` names it then.
    names = {"above", "alias", "backup.service", "user anna", "volume"}
    assert _past(home, "/etc/init/media.site.yaml") == names
    home.sh(f"{films} -f compose.yaml up --detach")
    assert _past(home, "/etc/init/media.site.yaml") == {*names, "films_films_1"}
    home.sh(f"{films} stop --timeout 1")
    home.sh(f"{COMMAND} init --undo /etc/init/media.init")
    home.sh(f"{films} up --detach")
    assert "policyfs" not in home.sh(f"{inside} grep ' /films ' /proc/mounts")


def _past(home: Home, site: str = SITE) -> set[str]:
    """What `status --check` asks to be named in the site, if it is meant to be."""
    said = home.sh(f"{COMMAND} status --check {site}", check=False)
    return {name.strip('"') for name in re.findall(r"PAST THE POLICY: .* past: \[(.*)\] in ", said)}


BACK: Final = f"""\
mkdir /opt/films
{FILMS}cat >/opt/films/policyfs.yaml <<'END'
version: "2.4"
services:
  films: {{volumes: ["/run/policyfs/mounts/home/tv:/films"]}}
END
cd /opt/films
docker-compose -f compose.yaml -f policyfs.yaml up --detach
"""
OTHERS: Final = f"""\
cd /
run="run --detach --network none -v /usr:/usr:ro"
docker create --network none --name stopped -v {STORE}:/data own sleep 1
podman $run --name alias -v /srv/disk/Films:/films localhost/own sleep 1000
chmod 711 /srv/disk # it was started before the library was closed
sh /anna run --detach --network none -v /usr:/usr:ro -v {STORE}/DCIM:/photos localhost/own sleep 1000
chmod 700 /srv/disk
"""


@pytest.mark.soak
def test_containers_that_are_back_on_the_store_are_named(home: Home) -> None:
    """A habit: `up` without the file of policyfs. Other engines, users without root, and other paths, too."""
    home.plug("/srv/disk")
    home.policyfs("up")
    home.sh(BACK)
    assert home.policyfs("status", "--check").count(": well\n") == 3
    home.sh("cd /opt/films; docker-compose up --detach")
    said = home.policyfs("status", "--check", check=False)
    [told] = [line for line in said.splitlines() if "PAST THE POLICY" in line]
    begin = f"{STORE}: PAST THE POLICY: the container films_films_1 of docker (/opt/films/compose.yaml) has "
    assert told.startswith(begin), said
    assert told.endswith(f"if this is meant to be, write past: [films_films_1] in {SITE}")
    home.sh(OTHERS)
    assert _past(home) == {"user anna", "alias", "films_films_1"}, "one does not run"
    said = home.sh(f"{COMMAND} doctor {STORE}")
    for name in ("films_films_1", "alias", "stopped", "user anna"):
        assert re.search(rf"off +past policy +(the container )?{name} ", said), said
    home.sh(f"echo 'past: [films_films_1, alias, user anna]' >>{SITE}")
    assert home.policyfs("status", "--check").count("past the policy, as its site says: ") == 3


@pytest.mark.timeout(1800 if SOAK else 240)
def test_no_container_finds_an_empty_library(home: Home) -> None:
    # After a boot without the store: before the mountpoints are there, no container starts.
    assert "does not exist" in home.sh(f"{COMPOSE} up --detach", check=False)
    assert "is not as it was" in home.policyfs("up", check=False)
    home.start()
    home.nobody_is_answered()
    home.plug("/srv/disk")
    home.policyfs("up")
    home.wait("ok")
    wait_for(lambda: home.health() == "healthy\n", "the container tv is healthy", HEAL_S)
    _reaches_its_own_mount_alone(home)

    if SOAK:
        _is_renewed(home)
    for number in range(count(1, 10)):
        # Docker doubles its pause before each start of a container that ran less than 10 s, up to a minute.
        _goes_and_comes(home, end_listers=number % 4 == 0)


def _is_renewed(home: Home) -> None:
    """Change options, and install other code: that is three mounts to renew."""
    home.sh(f"sed -i '/app: tv/s/path:/options: {{read_only: true}}, path:/' {SITE}")
    home.sh(f"mount --bind /next {OWN}/policyfs")
    assert home.policyfs("status", "--check", check=False).count(OLD) == 3
    # It refuses while a mount is in use, as it is for a moment at each listing.
    said = lambda: home.policyfs("up", "--restart", check=False)  # noqa: E731
    wait_for(lambda: "was not restarted" not in said(), "other options and code", HEAL_S)
    assert OLD not in home.policyfs("status", "--check", check=False)
    home.wait("ok")


def _goes_and_comes(home: Home, *, end_listers: bool) -> None:
    """Kill the daemons, have another store at the path, mount again, and unmount."""
    home.sh(KILL_DAEMONS)
    home.nobody_is_answered()
    home.plug("/srv/other")
    assert "another file system is there" in home.policyfs("up", check=False)
    home.nobody_is_answered()
    home.plug("/srv/disk")
    home.policyfs("up")
    home.wait("ok")

    wait_for(lambda: "busy" not in home.policyfs("down", check=False), "unmounted between listings", HEAL_S)
    home.nobody_is_answered()
    wait_for(lambda: home.health() == "unhealthy\n", "the container tv is unhealthy", HEAL_S)
    if end_listers:
        _end_listers(home)
        home.nobody_is_answered()
    if SOAK:  # else as after the boot
        home.policyfs("up")
        home.wait("ok")


def _end_listers(home: Home) -> None:
    """Kill all listers: their engines start the containers again, on the placeholder."""
    before = {name: len(home.lines(name)) for name in LISTERS}
    home.sh("pkill --signal KILL --full 'lister[.]py (DCIM|file)'")
    home.wait_for(lambda: all(len(home.lines(name)) > before[name] for name in LISTERS), "all run again")


def _reaches_its_own_mount_alone(home: Home) -> None:
    """Each container has one mount, and what is mounted in it stays there."""
    for engine, name in (
        ("docker", "tv"), ("docker", "photos"), ("podman", "podman"), ("sh /anna", "rootless"),
        ("sh /anna", "keep-id"),
    ):  # fmt: skip
        inside = home.sh(f"{engine} exec {name} cat /proc/self/mountinfo").splitlines()
        at = "mount" if name == "photos" else "media"
        assert {line.split()[4] for line in inside if " - fuse" in line} == {f"/data/{at}"}, inside
        names = ["media", "mount", "papers"] if name == "photos" else ["media"]
        assert home.sh(f"{engine} exec {name} ls -A /data").split() == names
    nsenter = f"nsenter --mount --target $({PID} photos)"  # as if it had the right to mount
    home.sh(f"{nsenter} mount -t tmpfs from-inside /data/papers")
    assert "from-inside" in home.sh(f"cat /proc/$({PID} photos)/mountinfo")
    assert "from-inside" not in home.sh(f"cat /proc/1/mountinfo /proc/$({PID} tv)/mountinfo")
    home.sh(f"{nsenter} umount /data/papers")
    # Nobody but the user of the rootless engine reaches its mount: no other uid of its containers.
    other = "setpriv --reuid 1001 --regid 1001 --clear-groups ls /data/media"
    assert "Permission denied" in home.sh(f"sh /anna exec rootless {other}", check=False)
