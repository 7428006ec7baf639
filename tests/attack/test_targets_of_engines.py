"""Docker, podman and systemd bind the targets of a site, and an app exchanges their directories for symlinks.

Each finds the app's own files, or errors; never a file of the machine. A running container finds again what
was mounted again, and starts while nothing is mounted.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.booted import CHECKOUT, POLICYFS, Booted, booted
from tests.support.machine.processes import wait_for

OWN: Final = shlex.quote(str(CHECKOUT))
COMMAND: Final = shlex.quote(str(POLICYFS))
SITE: Final = "/etc/policyfs/home.site.yaml"
UP_S: Final = 60
DEAD: Final = "error 107"
LINKS: Final = {"films": "/etc", "music": "../../../../etc", "letters": "Other"}
"""Targets whose directory the app exchanges for a link to the machine, or to another app's directory."""
TARGETS: Final = (*LINKS, "stays", "all")

SETUP: Final = f"""\
mkdir -p /etc/policyfs /var/log/targets
mkdir -m 700 -p /srv/media/Other
touch /srv/media/Other/secret
for name in {" ".join(LINKS)} stays; do mkdir /srv/media/$name; touch /srv/media/$name/own-$name; done
cat >/etc/policyfs/home.yaml <<END
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: home}}
apps: {{tv: {{uid: 1000}}}}
rules:
  - {{id: tv, allow: [all], who: {{app: tv}}, paths: "/***"}}
  - {{id: other, deny: [all], who: {{app: tv}}, paths: "/Other/***"}}
END
cat >{SITE} <<END
apiVersion: policyfs/v1
kind: Site
name: home
store: /srv/media
policy: /etc/policyfs/home.yaml
mounts:
  - app: tv
    service: tv.service
    container: tv
    targets: {{{", ".join(f"/lib-{name}: /{name}" for name in (*LINKS, "stays"))}, /lib-all: /}}
END
cat >/srv/list.py <<'END'
import os, sys
for name in sys.argv[1:]:
    try:
        print(name, *sorted(os.listdir("/lib-" + name)), sep=",")
    except OSError as error:
        print(name, "error %d" % error.errno, sep=",")
END
cd /etc/systemd/system
cat >tv.service <<END
[Service]
ExecStart=/usr/bin/sleep infinity
END
cat >docker.service <<END
[Service]
Type=notify
ExecStart=sh {OWN}/tests/support/machine/dockerd.sh
Delegate=yes
KillMode=process
END
sh {OWN}/tests/support/machine/podman.sh
podman import /image.tar localhost/own
{COMMAND} unit --policyfs {COMMAND} {SITE}
mkdir -p multi-user.target.wants policyfs-home.target.wants
ln -s ../policyfs-home.target ../docker.service ../tv.service multi-user.target.wants/
ln -s ../policyfs-home-tv.service policyfs-home.target.wants/
"""
STOP: Final = """\
docker rm --force $(docker ps --all --quiet)
podman rm --force --all --time 0
rmdir /sys/fs/cgroup/*/docker /sys/fs/cgroup/*/libpod_parent
"""
UNIT: Final = "policyfs-home-tv.service"


class Home:
    """The machine with its engines."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script in the machine. Return all that it prints."""
        return self.machine("sh", "-ec", script, check=check)

    def start_containers(self) -> None:
        options = self.sh(f"{COMMAND} compose {SITE} | sed -n 's/^# tv: //p'").strip()
        run = f"run --detach --network none -v /usr:/usr:ro -v /srv/list.py:/list.py:ro {options} --name tv"
        self.sh(f"docker {run} own sleep infinity; podman {run} localhost/own sleep infinity")

    def daemon(self) -> int:
        status = self.sh(f"{COMMAND} status --json {SITE} 2>/dev/null || true")
        return json.loads(status or "[{}]")[0].get("pid", 0)

    def kill_daemon(self) -> None:
        """Kill it, and wait until another has taken over."""
        killed = self.daemon()
        self.sh(f"kill -KILL {killed}")
        wait_for(lambda: self.daemon() not in {0, killed}, "another daemon", UP_S)

    def restart_users(self) -> None:
        self.sh("docker restart --time 0 tv; podman restart --time 0 tv; systemctl restart tv.service")

    def seen(self) -> dict[str, dict[str, str]]:
        """The names in each target, as each engine's programs find them."""
        service = f"nsenter --mount --target {self.machine.main_pid('tv.service')}"
        users = {"docker": "docker exec tv", "podman": "podman exec tv", "systemd": service}
        found = {}
        for name, inside in users.items():
            program = "/srv/list.py" if name == "systemd" else "/list.py"
            said = self.sh(f"{inside} python3 -I {program} {' '.join(TARGETS)}")
            lines = (line.partition(",") for line in said.splitlines())
            found[name] = {target: names for target, _, names in lines if target in TARGETS}  # not warnings
        return found

    def check(self, **wanted: str) -> None:
        """Check what is in the targets, alike for all users."""
        found = self.seen()
        for name, seen in found.items():
            assert {target: seen[target] for target in wanted} == wanted, (name, found)
            assert "passwd" not in str(seen) and "secret" not in str(seen), (name, found)

    def is_well(self) -> bool:
        states = [self.machine.state(unit) for unit in (UNIT, "tv.service", "docker.service")]
        return states == ["active"] * 3


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    setup = tmp_path / "setup"
    setup.write_text(SETUP)
    with booted(tmp_path, setup) as machine:
        home = Home(machine)
        try:
            wait_for(home.is_well, "all services are up", UP_S)
            home.sh("docker import /image.tar own")
            yield home
        except BaseException:
            print(home.sh("systemctl status --no-pager tv.service policyfs-home-tv.service", check=False))
            print(
                home.sh("journalctl --no-pager -n 60; cat /proc/self/mountinfo | grep policyfs", check=False)
            )
            raise
        finally:
            home.sh(STOP, check=False)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_no_engine_leaves_the_mount(home: Home) -> None:
    home.start_containers()
    own = {name: f"own-{name}" for name in (*LINKS, "stays")}
    home.check(**own)
    swaps = [f"mv {name} moved-{name}; ln -s {link} {name}" for name, link in LINKS.items()]
    home.sh(f"docker exec tv sh -ec 'cd /lib-all; {'; '.join(swaps)}'")
    home.kill_daemon()
    home.restart_users()
    home.check(stays="own-stays", **{name: own[name] for name in LINKS})  # binds follow their directories

    home.sh(f"systemctl restart {UNIT}")
    wait_for(home.is_well, "all services are up", UP_S)
    dead = dict.fromkeys(LINKS, DEAD)
    home.check(stays="own-stays", **dead)
    home.restart_users()
    home.check(stays="own-stays", **dead)
    assert home.sh(f"{COMMAND} status --check {SITE} || true").count("nothing is at /lib-") == len(LINKS)

    home.sh(f"systemctl stop {UNIT}")
    home.sh("docker restart --time 0 tv; podman restart --time 0 tv")
    for engine in ("docker", "podman"):
        assert f"stays,{DEAD}\nfilms,{DEAD}\n" in home.sh(f"{engine} exec tv python3 -I /list.py stays films")
    home.sh(f"cd /srv/media; for name in {' '.join(LINKS)}; do rm $name; mv moved-$name $name; done")
    home.sh(f"systemctl start {UNIT} tv.service")
    home.check(**own)
