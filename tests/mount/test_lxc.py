"""An unprivileged container of LXC, which gets a mount by an idmapped bind, as of Proxmox an `mp`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.booted import POLICYFS, booted

COMMAND: Final = shlex.quote(str(POLICYFS))
ROOT: Final = 100_000
"""The uid outside of the container's root."""
SETUP: Final = f"""\
mkdir -p /srv/media/DCIM /srv/apps/box /etc/policyfs /var/lib/lxc/box
echo beach >/srv/media/DCIM/a.jpg
chown -R 1000:1000 /srv/media/DCIM
chmod 700 /srv/apps
setfacl -m u:{ROOT}:x /srv/apps
cat >/etc/policyfs/box.yaml <<END
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: box}}
apps: {{box: {{}}}}
rules:
  - {{id: all, allow: [all], who: {{app: box}}, paths: "/**"}}
END
echo root:{ROOT}:65536 | tee /etc/subuid >/etc/subgid
cat >/var/lib/lxc/box/config <<END
lxc.include = /usr/share/lxc/config/common.conf
lxc.include = /usr/share/lxc/config/userns.conf
lxc.idmap = u 0 {ROOT} 65536
lxc.idmap = g 0 {ROOT} 65536
lxc.rootfs.path = dir:/box
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
lxc.mount.auto = proc:mixed sys:ro
lxc.mount.entry = /usr usr none rbind,ro 0 0
lxc.mount.entry = /srv/apps/box data none bind,idmap=container 0 0
lxc.init.cmd = /usr/bin/sleep infinity
END
for name in usr dev proc sys etc tmp run data; do mkdir -p /box/$name; done
for name in bin lib lib64 sbin; do ln -s usr/$name /box/$name; done
echo root:x:0:0::/:/bin/sh >/box/etc/passwd
chown -hR {ROOT}:{ROOT} /box
cat >/init <<END
{COMMAND} mount --policy /etc/policyfs/box.yaml --app box --any-uid --posix --idmap /srv/media /srv/apps/box
lxc-start box -l INFO -o /var/log/lxc.log
touch /up
while sleep 1; do :; done
END
"""


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_a_container_has_its_users_as_in_the_store(tmp_path: Path) -> None:
    setup = tmp_path / "setup"
    setup.write_text(SETUP)
    with booted(tmp_path, setup, "up") as machine:
        try:
            assert machine("lxc-info", "-H", "-s", "box") == "RUNNING\n", machine("cat", "/var/log/lxc.log")
            inside = ["lxc-attach", "box", "--clear-env", "--", "sh", "-c"]
            user = "setpriv --reuid 1000 --regid 1000 --clear-groups"
            assert machine(*inside, "cat /proc/self/uid_map").split() == ["0", str(ROOT), "65536"]
            machine(
                *inside, f"cd /data/DCIM && {user} sh -c 'cat a.jpg && echo new >b.jpg' && echo root >c.jpg"
            )
            assert machine(*inside, "stat -c %u /data/DCIM/*").split() == ["1000", "1000", "0"]
            assert machine("sh", "-c", "stat -c %u /srv/media/DCIM/*").split() == ["1000", "1000", "0"]
            machine("pkill", "--signal", "KILL", "--full", "policyfs[.]cli[.]m")
            assert "not connected" in machine(*inside, "ls /data", check=False)
        finally:
            machine("sh", "-c", "lxc-stop --kill box; rmdir /sys/fs/cgroup/*/lxc*", check=False)
