"""A site on a machine that systemd boots: nobody ever finds an empty library, whatever happens to store,
daemons and units, and all services are up again afterwards.

Each service, containers of Docker (restarted always) and of podman (a unit), and root list their library
all the time from before the first unit starts until the end. Programs that mirror it delete nothing.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.booted import CHECKOUT, POLICYFS, Booted, booted
from tests.support.machine.counts import SOAK, count
from tests.support.machine.processes import wait_for

pytestmark = pytest.mark.night

FIRST_UID: Final = 10011
STORE: Final = "/srv/media"
SITE: Final = "/etc/policyfs/home.site.yaml"
NAMES: Final = "DCIM,Documents"
UP_S: Final = 60
UNDISTURBED_S: Final = 1.0
"""How long a wrong listing has time to appear while nothing is to happen."""
ENGINES_WAIT_S: Final = 2
"""How long container engines wait for the store; 90 s if nobody changes it."""
LATE_S: Final = 60
PAUSE_S: Final = count(30, 10) / 1000
APPS: Final = ["camera", "gallery", "backup", "films", "music", "letters"][: 6 if SOAK else 1]
SHARED: Final = SOAK
"""Whether the site has a shared mount, which no lister uses; tests/mount/test_booted_upgrade.py has one."""
PURGERS: Final = (*(f"{app}-purge" for app in APPS), "docker-purge")
LISTERS: Final = (*APPS, "docker", "player")
LOGS: Final = (*LISTERS, *PURGERS, "root")
REMOVED: Final = "removed.jpg"
PROGRAMS: Final = CHECKOUT / "tests/support/programs"
WHERE: Final = "/run/policyfs/mounts/home"

SETUP: Final = """\
mkdir -p /srv/media /srv/disk /srv/other /etc/policyfs /var/log/listers /mnt/media
ln -s media/DCIM /pictures
cd /var/log/listers
touch docker docker-purge player
chmod 666 *
mkdir -m 777 state
mount -t tmpfs -o mode=700 disk /srv/disk
mkdir /srv/disk/DCIM /srv/disk/Documents
echo beach | tee /srv/disk/DCIM/beach.jpg >/srv/disk/DCIM/{removed}
echo letter >/srv/disk/Documents/letter.txt
mkdir /srv/disk/.stfolder
mount -t tmpfs -o mode=700 other /srv/other
mkdir /srv/other/DCIM
cat >/etc/policyfs/home.yaml <<END
{policy}END
cat >/etc/policyfs/home.site.yaml <<END
{site}END
cp {programs}/lister.py {programs}/purger.py /srv
sed -i "s/^PAUSE_S = 0.01/PAUSE_S = {pause_s}/" /srv/lister.py
# The store has been mounted before.
mount --bind /srv/disk /srv/media
{policyfs} accept /srv/media
umount /srv/media
cp -a {checkout}/policyfs /next
touch /next/more.py
cd /etc/systemd/system
for app in {apps}; do
    cat >$app.service <<END
[Service]
User=$app
ExecStartPre=/usr/bin/test -e /pictures/beach.jpg
ExecStart=/usr/bin/python3 -I /srv/lister.py {names} /media
StandardOutput=append:/var/log/listers/$app
END
    cat >$app-purge.service <<END
[Service]
User=$app
StateDirectory=%p
ExecStart=/usr/bin/python3 -I /srv/purger.py /media /var/lib/%p
StandardOutput=append:/var/log/listers/%p
END
done
{users}
# Every program of a machine that root may run, from the first moment on.
cat >root.service <<END
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/python3 -I /srv/lister.py {names} {paths}
StandardOutput=append:/var/log/listers/root
END
cat >docker.service <<END
[Service]
Type=notify
ExecStart={docker}
Delegate=yes
KillMode=process
END
sh {checkout}/tests/support/machine/podman.sh
podman import /image.tar localhost/own
options="--network none --user 2000:2000 -v /usr:/usr:ro -v /srv:/srv:ro -v /var/log/listers:/logs"
options="$options $({policyfs} compose /etc/policyfs/home.site.yaml | sed -n 's/^# tv: //p')"
# As Quadlet (podman 5.4) makes it, but for --cgroups=split, which needs other control groups than here.
cat >player.service <<END
[Unit]
Wants=policyfs-home-tv.service
After=policyfs-home-tv.service
RequiresMountsFor=%t/containers {where}/tv
[Service]
Environment=PODMAN_SYSTEMD_UNIT=%n
KillMode=mixed
ExecStopPost=-podman rm -v -f -i --cidfile=%t/%N.cid
Delegate=yes
Type=notify
NotifyAccess=all
Restart=always
ExecStart=podman run --name systemd-%N --cidfile=%t/%N.cid --replace --rm --sdnotify=conmon -d \\
    $options localhost/own sh -c 'exec python3 -I /srv/lister.py {names} /data/media >>/logs/player'
END
{policyfs} unit --policyfs {policyfs} /etc/policyfs/home.site.yaml
sed -i s/^JobTimeoutSec=90/JobTimeoutSec={engines_s}/ policyfs-home.target
mkdir -p multi-user.target.wants policyfs-home.target.wants sysinit.target.wants
ln -s ../policyfs-home.target multi-user.target.wants/
for unit in policyfs-home-*.service; do
    ln -s ../$unit policyfs-home.target.wants/
done
for unit in {services}; do
    ln -s ../$unit.service multi-user.target.wants/
done
ln -s ../root.service sysinit.target.wants/
# Containers that ran when the machine went down.
mkdir -p {where}/tv/media
{docker} 2>/var/log/dockerd &
while ! docker import /image.tar own 2>/dev/null; do sleep 0.1; done
docker run --detach --name tv --restart always $options own sh -c \\
    'python3 -I /srv/purger.py /data/media /logs/state >>/logs/docker-purge &
    exec python3 -I /srv/lister.py {names} /data/media >>/logs/docker'
pkill -KILL '^(dockerd|containerd|python3|conmon)'
wait
rm -r {where} /run/docker* /run/containerd /run/containers
for log in docker docker-purge; do : >/var/log/listers/$log; done
"""

STOP: Final = """\
docker rm --force tv
podman rm --force --all --time 0
rmdir /sys/fs/cgroup/*/docker /sys/fs/cgroup/*/libpod_parent
"""


def _setup(path: Path) -> None:
    everybody = [*APPS, "tv"]
    uids = {app: FIRST_UID + number for number, app in enumerate(everybody)}
    rules = [
        f"  - {{id: {app}.reads, allow: [see, read], who: {{app: {app}}}, paths: ['/***']}}"
        for app in everybody
    ]
    apps = ", ".join(f"{app}: {{uid: {uid}}}" for app, uid in uids.items())
    root = '  - {id: root.reads, allow: [see], who: {app: root}, paths: ["/***"]}'
    policy = [
        "apiVersion: policyfs/v1", "kind: Policy", "metadata: {name: home}",
        f"apps: {{root: {{uid: 0}}, {apps}}}", "rules:", root, *rules,
    ]  # fmt: skip
    mounts = [
        f"  - {{app: {app}, service: [{app}.service, {app}-purge.service], path: /media}}" for app in APPS
    ]
    site = [
        "apiVersion: policyfs/v1", "kind: Site", "name: home", f"store: {STORE}",
        "policy: /etc/policyfs/home.yaml", "mounts:", *mounts,
        "  - {app: tv, container: [tv, player], path: /data/media}",
        *(["  - {shared: true, at: /mnt/media}"] if SHARED else []),
    ]  # fmt: skip
    users = [f"echo {app}:x:{uid}:{uid}::/:/bin/sh >>/etc/passwd; echo {app}:x:{uid}: >>/etc/group"
             for app, uid in uids.items()]  # fmt: skip
    path.write_text(
        SETUP.format(
            policy="".join(f"{line}\n" for line in policy),
            site="".join(f"{line}\n" for line in site),
            programs=shlex.quote(str(PROGRAMS)),
            checkout=shlex.quote(str(CHECKOUT)),
            removed=REMOVED,
            policyfs=shlex.quote(str(POLICYFS)),
            apps=" ".join(APPS),
            names=NAMES,
            where=WHERE,
            docker=f"sh {shlex.quote(f'{CHECKOUT}/tests/support/machine/dockerd.sh')}",
            paths=" ".join(f"{WHERE}/{app}/media" for app in everybody),
            engines_s=ENGINES_WAIT_S,
            pause_s=PAUSE_S,
            users="\n".join(users),
            services=" ".join([*APPS, *PURGERS[:-1], "docker", "player"]),
        )
    )


_REMOVALS: Final = {
    f"{name}: {path} DELETED ['DCIM/{REMOVED}']"
    for name, path in ((name, "/data/media" if name == "docker-purge" else "/media") for name in PURGERS)
}  # fmt: skip


class Home:
    """The machine with its site, and what its listers have seen."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine

    def lines(self, lister: str) -> list[str]:
        """All lines of a lister."""
        try:
            return (self.machine.root / "var/log/listers" / lister).read_text().splitlines()
        except FileNotFoundError:
            return []

    def is_up(self) -> bool:
        """True if all services are up, and each was answered last."""
        latest = [self.lines(name)[-1:] for name in (*LISTERS, *PURGERS)]
        by_path = dict(line.split(" ", 1) for line in self.lines("root"))
        answers = [line[0].split(" ", 1)[1] for line in latest if line] + list(by_path.values())
        return (
            all(latest) and set(answers) == {"ok"} and len(by_path) == len(APPS) + 1
            and all(self.machine.state(f"{app}.service") == "active" for app in APPS)
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until it is up."""
        try:
            wait_for(self.is_up, "all services are up and answered", UP_S)
        except BaseException:
            print({name: self.lines(name)[-5:] for name in LOGS})
            services = [f"{app}.service" for app in (*APPS, "player")]
            print(self.machine("systemctl", "status", "--no-pager", *services, check=False))
            print(self.machine("journalctl", "--no-pager", "-n", "60", check=False))
            raise

    def counts(self) -> dict[str, int]:
        """The number of lines of each lister."""
        return {name: len(self.lines(name)) for name in (*LISTERS, "root")}

    def all_had_errors(self, since: dict[str, int]) -> bool:
        """True if each lister has had an error since these counts()."""
        return all(any("error" in line for line in self.lines(name)[count:]) for name, count in since.items())

    def nobody_is_answered(self) -> None:
        """Look for a while: there is no listing at all."""
        before = {name: len(self.lines(name)) for name in LOGS}
        time.sleep(UNDISTURBED_S)  # nothing is to happen
        new = [line for name, count in before.items() for line in self.lines(name)[count:]]
        assert not [line for line in new if line.endswith(" ok")], new
        self.check()

    def check(self) -> None:
        """No listing was empty, or shorter than the store's, and nothing there was taken for deleted."""
        seen = [f"{name}: {line}" for name in LOGS for line in self.lines(name)]
        assert not [
            line for line in seen if "SHORT" in line or ("DELETED" in line and line not in _REMOVALS)
        ], seen

    def journal(self, app: str) -> list[str]:
        """The first words of each line in the journal of a mount; the last says that the mount answers."""
        lines = self.machine("journalctl", "--output=cat", f"--unit=policyfs-home-{app}").splitlines()
        answers = f'info: the mount answers mountpoint="{WHERE}/{app}/media" store="{STORE}" app="{app}" '
        assert len(lines) < 2 or lines[-1].startswith(answers), lines
        return [line.partition(": the ")[0] for line in lines]

    def warnings(self, app: str) -> list[tuple[str, str]]:
        """The level and the id of each message for administrators in the journal of a mount."""
        unit = f"--unit=policyfs-home-{app}"
        lines = self.machine("journalctl", "--output=json", "--priority=warning", unit).splitlines()
        found = [json.loads(line) for line in lines]
        return [(one["PRIORITY"], re.findall(r'id="([^"]+)"', one["MESSAGE"])[0]) for one in found]

    def old_code(self) -> int:
        """How many daemons run other code than is installed."""
        return self.machine(str(POLICYFS), "status", "--check", SITE, check=False).count(" its unit")

    def plug(self, disk: str) -> None:
        """Mount a disk at the store's path."""
        self.machine("mount", "--bind", disk, STORE)

    def unplug(self) -> None:
        self.machine("umount", "--lazy", STORE)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    setup = tmp_path / "setup"
    _setup(setup)
    with booted(tmp_path, setup) as machine:
        try:
            yield Home(machine)
        finally:
            machine("sh", "-c", STOP, check=False)


def _is_looked_at(machine: Booted) -> None:
    """A timer looks at the site: what was given the library is named in the journal."""
    check = "policyfs-check-home"
    assert machine.state(f"{check}.timer") == "active"
    containers = machine(str(POLICYFS), "status", "--check", SITE, check=False)  # these have /srv
    names = re.findall(r"past: \[(.*)\] in ", containers)
    assert {"tv", "systemd-player"} <= set(names), containers
    machine("sh", "-c", f"echo 'past: [{', '.join(names)}]' >>{SITE}")
    machine("systemctl", "start", f"{check}.service")
    machine("mkdir", "/srv/past")
    more = (f"--property=BindPaths={STORE}/DCIM:/srv/past", "sleep", "1000")
    machine("systemd-run", "--unit=past", *more)
    try:
        machine("systemctl", "start", f"{check}.service", check=False)
        assert machine.state(f"{check}.service") == "failed"
        words = ("journalctl", "--output=cat", "--priority=warning", f"--unit={check}", "--grep=past-policy")
        told = machine(*words)
        assert 'id="past-policy"' in told
        assert "past.service has /srv/media, or a part of it, at /srv/past" in told
    finally:
        machine("systemctl", "stop", "past.service")
        machine("systemctl", "reset-failed", f"{check}.service")


@pytest.mark.timeout(600)
def test_nobody_finds_an_empty_library(home: Home) -> None:
    machine = home.machine
    wait_for(lambda: machine.state("policyfs-home-places.service") == "active", "the mountpoints", UP_S)
    # The store is absent at boot: its path is an empty directory.
    home.nobody_is_answered()
    assert [machine.state(f"{app}.service") for app in APPS] == ["inactive"] * len(APPS)
    wait_for(lambda: home.lines("docker"), "containers do not wait longer", UP_S + ENGINES_WAIT_S)
    home.nobody_is_answered()
    if SOAK:
        time.sleep(LATE_S)
    home.plug("/srv/disk")
    home.wait()

    (machine.root / "srv/disk/DCIM" / REMOVED).unlink()
    wait_for(lambda: all("DELETED" in str(home.lines(name)) for name in PURGERS), "purgers delete it", UP_S)
    made = machine(
        "sh", "-c", "cd /etc/systemd/system; ls -d policyfs-*.service policyfs-home.target *.d"
    ).split()
    units = [name.removesuffix(".d") for name in made]
    assert len(units) == 2 * len(APPS) + len(APPS) + 4 + SHARED
    assert machine("systemd-analyze", "verify", *units) == ""
    wait_for(lambda: len(home.journal(APPS[0])) >= 2, "journald has read all lines", UP_S)
    assert home.journal(APPS[0]) == ["warning", "info"], "one line for each start"
    assert home.warnings(APPS[0]) == [("4", "store-absent")]
    _is_looked_at(machine)
    down = machine(str(POLICYFS), "down", SITE, check=False)
    stop, _, said = down.partition("`")[2].partition("`")
    assert stop.startswith("systemctl stop policyfs-home.target policyfs-home-"), down
    assert said.startswith(" ends them, and the services that use them. Nothing"), down
    home.wait()

    units = [f"policyfs-home-{app}.service" for app in (*APPS, "tv", *["shared"] * SHARED)]
    wait_for(lambda: all(machine.state(unit) == "active" for unit in units), "all mounts are up", UP_S)
    before = home.counts()
    machine("kill", "-KILL", *(str(machine.main_pid(unit)) for unit in units))
    wait_for(lambda: home.all_had_errors(before), "each lister gets errors", UP_S)
    home.wait()
    wait_for(lambda: all(machine.state(unit) == "active" for unit in units), "all mounts are back", UP_S)

    # Other code is installed, and the site has changed.
    machine("mount", "--bind", "/next", f"{CHECKOUT}/policyfs")
    machine("sed", "-i", "s|/data/media}|/data/media, directories: {pictures: /DCIM}}|", SITE)
    said = machine(str(POLICYFS), "unit", "--policyfs", str(POLICYFS), SITE)
    renew = f"{said.partition('now: ')[2].strip()} && systemctl restart"
    assert home.old_code() == len(units)
    machine("sh", "-c", " ".join([renew, *units]))
    home.wait()
    assert home.old_code() == 0
    assert "beach.jpg" in machine("ls", f"{WHERE}/tv/pictures/")

    machine(*stop.split())
    assert "fuse.policyfs " not in machine("cat", "/proc/mounts"), "the stop has waited"
    home.nobody_is_answered()
    home.unplug()
    home.plug("/srv/other")
    machine("systemctl", "start", "--no-block", "policyfs-home.target", *(f"{app}.service" for app in APPS))
    home.nobody_is_answered()
    home.unplug()
    home.plug("/srv/disk")
    home.wait()

    if not SOAK:
        return
    machine("systemctl", "stop", "policyfs-home.target")
    up = machine(str(POLICYFS), "up", SITE)
    assert up.count(": up at ") == len(units), up
    machine(str(POLICYFS), "down", SITE)
    home.nobody_is_answered()
