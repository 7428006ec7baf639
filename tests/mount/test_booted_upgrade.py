"""Units on a machine that systemd boots: `systemctl reload` lets other code take over a mount in use, and no
call fails."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mount.test_takeover_writes import POLICY as RULES
from tests.mount.test_takeover_writes import as_app, changing
from tests.mount.test_upgrade import BROKEN
from tests.support.machine.booted import CHECKOUT, Booted, booted
from tests.support.machine.counts import SOAK, count
from tests.support.machine.processes import wait_for

pytestmark = pytest.mark.night

UNIT: Final = "policyfs-home-shared.service"
AT: Final = Path("/mnt/media")
UP_S: Final = 60
CODE: Final = "/opt/policyfs"
POLICYFS: Final = f"{CODE}/current/bin/policyfs"
POLICY: Final = "/etc/policyfs/home.yaml"
SITE: Final = f"""\
apiVersion: policyfs/v1
kind: Site
name: home
store: /srv/media
policy: {POLICY}
mounts: [{{shared: true, at: {AT}, options: {{keeper: true}}}}]
"""
SETUP: Final = """\
set -e
mkdir -p /srv/media /etc/policyfs {at} /installed /opt
mount -t tmpfs -o mode=700 disk /srv/media
# As each test is to find it: the files, the policy, and the versions.
cat >/fresh <<'FRESH'
set -e
rm -rf /srv/media/Work {code} /run/systemd/system/{unit}.d
mkdir -p /srv/media/Work/0 /srv/media/Work/1 /srv/media/Work/books
chmod -R 777 /srv/media/Work
cat >{policy} <<END
{rules}END
cp -a /installed {code}
FRESH
cat >/etc/policyfs/home.site.yaml <<END
{site}END
# As the package installs it: each version in a directory of its own, and a link to the one in use.
checkout={checkout}
libraries=$(echo "$checkout"/.venv/lib/python*/site-packages)
for version in 1 2 3; do
    at=/installed/$version
    site=$at/${{libraries#"$checkout/.venv/"}}
    mkdir -p $at/bin $site
    cp "$checkout/packaging/bin/policyfs" $at/bin
    ln -s "$(readlink -f "$checkout/.venv/bin/python")" $at/bin/python3
    cp "$checkout/.venv/pyvenv.cfg" $at
    for library in "$libraries"/*; do
        case ${{library##*/}} in
        policyfs* | __editable__* | *.pth) ;;
        *) ln -s "$library" $site ;;
        esac
    done
    cp -a "$checkout/policyfs" $site
    ln -s ${{site#$at/}}/policyfs $at/code
    mkdir $site/policyfs-$version.dist-info
    echo "# $version" >>$site/policyfs/__init__.py
done
ln -s 1 /installed/current
sh /fresh
{policyfs} accept /srv/media
{policyfs} unit --policyfs {policyfs} /etc/policyfs/home.site.yaml
cd /etc/systemd/system
mkdir -p multi-user.target.wants policyfs-home.target.wants
ln -s ../policyfs-home.target multi-user.target.wants/
ln -s ../{unit} policyfs-home.target.wants/
"""


class Home:
    """The machine with its mount."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine
        self._is_new = True

    def renew(self) -> None:
        """Mount anew, with all as at the boot, if a test has had the machine."""
        if not self._is_new:
            again = f"sh /fresh && systemctl daemon-reload && systemctl start {UNIT}"
            self.machine("sh", "-c", f"systemctl stop {UNIT}; {again}")
        self._is_new = False

    def use(self, version: int) -> None:
        """Install a version."""
        self.machine("ln", "-sfn", str(version), f"{CODE}/current")

    def install(self, version: int) -> str:
        """Do what the package does once its files are there, and return what it prints."""
        for name in ("policyfs.postinst", "remove-versions"):
            text = (CHECKOUT / "packaging/debian" / name).read_text()
            text = text.replace("/usr/lib/policyfs", CODE).replace("/usr/share/policyfs/", "sh /")
            (self.machine.root / name).write_text(text)
        stub = self.machine.root / "stubs/dpkg-query"
        stub.parent.mkdir()
        stub.write_text(f"#!/bin/sh\necho {version}\n")
        stub.chmod(0o755)
        self.machine("mv", f"{CODE}/{version}", f"{CODE}/code")
        return self.machine("sh", "-c", "PATH=/stubs:$PATH; sh /policyfs.postinst configure")

    def reload(self) -> bool:
        """Reload the unit, and say if that succeeded."""
        return self.machine("sh", "-c", f"systemctl reload {UNIT} && echo done", check=False) == "done\n"

    def status(self) -> dict[str, Any]:
        """What `policyfs status` shows. A candidate that has ended has the socket's name a moment longer."""
        words = (POLICYFS, "status", "--json", str(AT))
        return dict(json.loads(wait_for(lambda: self._told(*words), "the status", UP_S)))

    def _told(self, *words: str) -> str:
        told = self.machine(*words, check=False)
        return told if told.startswith("{") else ""

    def serves(self, version: int) -> dict[str, Any]:
        """Return the status of the mount. It is served by that version, and its unit is active."""
        status = self.status()
        assert (self.machine.state(UNIT), status["version"]) == ("active", str(version))
        return status

    def limits(self) -> dict[str, list[str]]:
        """What each process of the unit may not do, by its pid."""
        group = self.machine("systemctl", "show", "--value", "--property=ControlGroup", UNIT).strip()
        find = f"cat $(find /sys/fs/cgroup -path '*{group}/cgroup.procs' | head -n 1)"
        limits = r"grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/$pid/status"
        found = {}
        for pid in self.machine("sh", "-c", find).split():
            found[pid] = self.machine("sh", "-c", f"pid={pid}; {limits}", check=False).split()
        return found

    def limit(self, setting: str) -> None:
        """Add a setting to the unit, for the commands that systemd starts from now on."""
        place = self.machine.root / f"run/systemd/system/{UNIT}.d"
        place.mkdir(parents=True, exist_ok=True)
        (place / "limit.conf").write_text(f"[Service]\n{setting}\n")
        self.machine("systemctl", "daemon-reload")

    def about(self) -> str:
        """What `systemctl status` shows."""
        return self.machine("systemctl", "status", "--no-pager", "--full", "--lines=40", UNIT, check=False)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Programs change files meanwhile; no call of them fails, and each change is made once."""
        with changing(AT / "Work", lambda *words: self.machine.words(*as_app(*words))) as told:
            yield
        for failed, calls, worst, differences in told:
            print(f"{calls} calls, the longest {worst} s")
            assert (failed, differences) == ([], [])
            assert isinstance(calls, int) and calls > 20


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Boot the machine of all tests here."""
    place = tmp_path_factory.mktemp("machine")
    setup = place / "setup"
    values = {"at": AT, "code": CODE, "policy": POLICY, "rules": RULES, "site": SITE, "unit": UNIT}
    setup.write_text(SETUP.format(checkout=shlex.quote(str(CHECKOUT)), policyfs=POLICYFS, **values))
    with booted(place, setup) as running:
        wait_for(lambda: running.state(UNIT) == "active", "the mount", UP_S)
        yield Home(running)


@pytest.fixture
def home(machine: Home) -> Home:
    """The machine with version 1, and a new mount."""
    machine.renew()
    return machine


@pytest.mark.timeout(900 if SOAK else 300)
def test_a_reload_lets_installed_code_take_over_and_a_changed_policy_waits(home: Home) -> None:
    machine, digest = home.machine, home.status()["policy"]["digest"]
    pids, limits = [machine.main_pid(UNIT)], home.limits()
    assert "continue" in machine("systemctl", "show", "--property=OOMPolicy", UNIT), "or it ends at a kill"
    with home.in_use():
        for left in reversed(range(count(2, 40))):
            version = 1 + left % 2
            home.use(version)
            if not left:
                machine("sed", "-i", "s/, delete//", POLICY)
            assert home.reload() == bool(left), home.about()
            pids.append(machine.main_pid(UNIT))
            status = home.serves(version)
            assert status["policy"]["digest"] == digest
            print(f"version {version}, pause {status['takeover']['pause_ms']} ms")
        assert "policyfs: 1 has taken over from 2, and the policy in force stays" in home.about()
    assert len(set(pids)) == len(pids)
    old = f"grep -sF {CODE}/{3 - version}/ /proc/[0-9]*/maps"
    wait_for(lambda: not machine("sh", "-c", old, check=False), "nobody uses the other version", UP_S)
    assert "is not our child" not in home.about()
    after = home.limits()
    assert str(pids[-1]) in after and str(pids[0]) not in after
    assert after[str(pids[-1])] == limits[str(pids[0])]
    assert sorted(after.values()) == sorted(limits.values())

    assert home.reload()
    assert machine.main_pid(UNIT) == pids[-1], "the same code loads the policy"
    policy = home.status()["policy"]
    assert (policy["generation"], policy["digest"] != digest) == (2, True)
    machine("kill", "-KILL", str(pids[-1]))
    wait_for(lambda: machine.main_pid(UNIT) not in {0, pids[-1]}, "systemd sees the end of the new one", UP_S)
    wait_for(lambda: machine.state(UNIT) == "active", "and mounts again", UP_S)
    machine("systemctl", "stop", UNIT)
    left = machine("findmnt", "--noheadings", "--types", "fuse.policyfs", check=False)
    assert "policyfs" not in left, home.about()


@pytest.mark.timeout(300)
def test_the_package_renews_mounts_of_units(home: Home) -> None:
    with home.in_use():
        assert home.install(2) == ""
        home.serves(2)
    assert sorted(home.machine("ls", CODE).split()) == ["2", "code", "current"], "nobody uses other versions"


@pytest.mark.timeout(300)
def test_the_old_code_goes_on_if_a_candidate_ends(home: Home) -> None:
    pid, module = home.machine.main_pid(UNIT), home.machine.root / f"{CODE}/3/code".lstrip("/")
    home.use(3)
    with home.in_use():
        home.limit("SystemCallFilter=~pidfd_getfd")
        assert not home.reload()
        assert ": the running daemon's state cannot be read: Operation not permitted" in home.about()
        assert home.status()["takeover"]["count"] == 0, "nothing is asked of the old one"
        home.limit("")
        for case in ("right before its first request", *["before it asks"] * SOAK):
            name, before, after = BROKEN[case]
            path = module / name
            text = path.read_text()
            path.write_text(text.replace(before, after))
            assert not home.reload()
            path.write_text(text)
            assert "policyfs: the installed code, 3, has not taken over, and 1 goes on: " in home.about()
            home.serves(1)
            assert home.machine.main_pid(UNIT) == pid
        assert home.reload(), home.about()
    home.serves(3)
