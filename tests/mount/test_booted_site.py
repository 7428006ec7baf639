"""A site on a machine that systemd boots: nobody ever finds an empty library, whatever happens to store,
daemons and units, and all services are up again afterwards.

Each service, a container of Docker that is always restarted, and root list their library every 10 ms from
before the first unit starts until the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.booted import CHECKOUT, POLICYFS, Booted, booted
from tests.support.machine.counts import SOAK
from tests.support.machine.processes import wait_for

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
APPS: Final = ["camera", "gallery", "backup", "films", "music", "letters"][: 6 if SOAK else 2]
LISTER: Final = CHECKOUT / "tests/support/programs/lister.py"
WHERE: Final = "/run/policyfs/mounts/home"

SETUP: Final = """\
mkdir -p /srv/media /srv/disk /srv/other /etc/policyfs /var/log/listers /mnt/media
touch /var/log/listers/docker
chmod 666 /var/log/listers/docker
mount -t tmpfs -o mode=700 disk /srv/disk
mkdir /srv/disk/DCIM /srv/disk/Documents
echo beach >/srv/disk/DCIM/beach.jpg; echo letter >/srv/disk/Documents/letter.txt
mount -t tmpfs -o mode=700 other /srv/other
mkdir /srv/other/DCIM
cat >/etc/policyfs/home.yaml <<END
{policy}END
cat >/etc/policyfs/home.site.yaml <<END
{site}END
cp {lister} /srv/lister.py
# The store has been mounted before.
mount --bind /srv/disk /srv/media
{policyfs} accept /srv/media
umount /srv/media
cd /etc/systemd/system
for app in {apps}; do
    cat >$app.service <<END
[Service]
User=$app
ExecStartPre=/usr/bin/test -e /pictures/beach.jpg
ExecStart=/usr/bin/python3 -I /srv/lister.py {names} /media
StandardOutput=append:/var/log/listers/$app
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
# A container that ran when the machine went down.
mkdir -p {where}/tv/media /image/usr
for name in bin lib lib64; do ln -s usr/$name /image/$name; done
tar -C /image -cf /image.tar .
{docker} 2>/var/log/dockerd &
while ! docker import /image.tar own 2>/dev/null; do sleep 0.1; done
docker run --detach --name tv --restart always --network none --user 2000:2000 \\
    -v /usr:/usr:ro -v /srv/lister.py:/lister.py:ro -v /var/log/listers:/logs \\
    $({policyfs} compose /etc/policyfs/home.site.yaml | sed -n 's/^# tv: //p') \\
    own sh -c 'exec python3 -I /lister.py {names} /data/media >>/logs/docker'
pkill -KILL '^(dockerd|containerd|python3|conmon)'
wait
rm -r {where} /run/docker* /run/containerd
: >/var/log/listers/docker
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
        f"  - {{app: {app}, service: {app}.service, path: /media, directories: {{pictures: /DCIM}}}}"
        for app in APPS
    ]
    site = [
        "apiVersion: policyfs/v1", "kind: Site", "name: home", f"store: {STORE}",
        "policy: /etc/policyfs/home.yaml", "mounts:", *mounts,
        "  - {app: tv, container: tv, path: /data/media}", "  - {shared: true, at: /mnt/media}",
    ]  # fmt: skip
    users = [f"echo {app}:x:{uid}:{uid}::/:/bin/sh >>/etc/passwd; echo {app}:x:{uid}: >>/etc/group"
             for app, uid in uids.items()]  # fmt: skip
    path.write_text(
        SETUP.format(
            policy="".join(f"{line}\n" for line in policy), site="".join(f"{line}\n" for line in site),
            lister=LISTER, policyfs=POLICYFS, apps=" ".join(APPS), names=NAMES, where=WHERE,
            docker=f"sh {CHECKOUT}/tests/support/machine/dockerd.sh",
            paths=" ".join(f"{WHERE}/{app}/media" for app in everybody),
            engines_s=ENGINES_WAIT_S, users="\n".join(users), services=" ".join([*APPS, "docker"]),
        )
    )


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
        latest = [self.lines(name)[-1:] for name in (*APPS, "docker")]
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
            print({name: self.lines(name)[-5:] for name in (*APPS, "docker", "root")})
            services = [f"{app}.service" for app in APPS]
            print(self.machine("systemctl", "status", "--no-pager", *services, check=False))
            print(self.machine("journalctl", "--no-pager", "-n", "60", check=False))
            raise

    def counts(self) -> dict[str, int]:
        """The number of lines of each lister."""
        return {name: len(self.lines(name)) for name in (*APPS, "docker", "root")}

    def all_had_errors(self, since: dict[str, int]) -> bool:
        """True if each lister has had an error since these counts()."""
        return all(any("error" in line for line in self.lines(name)[count:]) for name, count in since.items())

    def nobody_is_answered(self) -> None:
        """Look for a while: there is no listing at all."""
        before = self.counts()
        time.sleep(UNDISTURBED_S)  # nothing is to happen
        new = [line for name, count in before.items() for line in self.lines(name)[count:]]
        assert not [line for line in new if line.endswith(" ok")], new
        self.check()

    def check(self) -> None:
        """No listing was empty, or shorter than the store's."""
        seen = [f"{name}: {line}" for name in (*APPS, "docker", "root") for line in self.lines(name)]
        assert not [line for line in seen if "SHORT" in line], seen

    def journal(self, app: str) -> list[str]:
        """The first words of each line in the journal of a mount; the last says that the mount answers."""
        lines = self.machine("journalctl", "--output=cat", f"--unit=policyfs-home-{app}").splitlines()
        answers = f'info: the mount answers mountpoint="{WHERE}/{app}/media" store="{STORE}" app="{app}" '
        assert len(lines) < 2 or lines[-1].startswith(answers), lines
        return [line.partition(": the ")[0] for line in lines]

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
            machine("sh", "-c", "docker rm --force tv; rmdir /sys/fs/cgroup/*/docker", check=False)


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

    assert machine("systemd-analyze", "verify", "policyfs-home.target", f"{APPS[0]}.service") == ""
    wait_for(lambda: len(home.journal(APPS[0])) == 2, "journald has read all lines", UP_S)
    assert home.journal(APPS[0]) == ["policyfs: waiting", "info"], "one line for each start"
    down = machine(str(POLICYFS), "down", SITE, check=False)
    assert "`systemctl stop policyfs-home.target` ends them, and the services that use them. Not" in down
    home.wait()

    units = [f"policyfs-home-{app}.service" for app in (*APPS, "tv", "shared")]
    wait_for(lambda: all(machine.state(unit) == "active" for unit in units), "all mounts are up", UP_S)
    before = home.counts()
    machine("kill", "-KILL", *(str(machine.main_pid(unit)) for unit in units))
    wait_for(lambda: home.all_had_errors(before), "each lister gets errors", UP_S)
    home.wait()

    machine("systemctl", "stop", "policyfs-home.target")
    home.nobody_is_answered()
    home.unplug()
    home.plug("/srv/other")
    machine("systemctl", "start", "--no-block", "policyfs-home.target", *(f"{app}.service" for app in APPS))
    home.nobody_is_answered()
    home.unplug()
    home.plug("/srv/disk")
    home.wait()

    machine("systemctl", "stop", "policyfs-home.target")
    up = machine(str(POLICYFS), "up", SITE)
    assert up.count(": up at ") == len(APPS) + 2, up
    machine(str(POLICYFS), "down", SITE)
    home.nobody_is_answered()
