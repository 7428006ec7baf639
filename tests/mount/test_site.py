"""Mount sets: `policyfs up`, `down` and `status` of a site."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.fs.path_bounds import default_nodes
from policyfs.linux.immutable import set_immutable
from policyfs.linux.memory import usable_bytes
from policyfs.linux.mountinfo import FSTYPE
from tests.support.machine.namespace import abort_connection, detach, mounts_below
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.models.twins import fd_of
from tests.support.mount.daemons import Said, policyfs_process

GALLERY, MAPS = 10011, 10012
CHECKOUT = Path(__file__).resolve().parents[2]


class Site:
    """A site in an arena, with its commands."""

    def __init__(self, arena: Path, store: Path) -> None:
        self.arena = arena
        self.file = arena / "home.site.yaml"
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(arena / "run"),
            "POLICYFS_KEY_DIR": str(arena / "keys"),
            "PYTHONPATH": str(CHECKOUT),
        }
        self.write(store, "gallery")

    def write(self, store: Path, *apps: str, more: str = "") -> None:
        """Write the file: an app mount for each app, and a shared one. more: options of the app mounts."""
        mounts = [f"  - {{app: {app}, at: {self.arena}/apps/{app}, options: {{{more}}}}}" for app in apps]
        self.file.write_text("\n".join([
            "apiVersion: policyfs/v1", "kind: Site", "name: home", f"store: {store}",
            f"policy: {CHECKOUT}/policies/family-photos.yaml", f"trail: {self.arena}/trail", "mounts:",
            *mounts, f"  - {{shared: true, at: {self.arena}/all}}",
        ]) + "\n", encoding="utf-8")  # fmt: skip

    def __call__(self, *words: str) -> Said:
        return policyfs_process(*words, str(self.file), environment=self.environment, deadline_s=110)

    def mounted(self) -> list[str]:
        return sorted(
            str(Path(entry.mountpoint).relative_to(self.arena))
            for entry in mounts_below(self.arena)
            if entry.fstype == FSTYPE
        )


@pytest.fixture
def site(arena: Path, store: Path) -> Iterator[Site]:
    made = Site(arena, store)
    yield made
    for entry in mounts_below(arena):
        abort_connection(entry.device)
        detach(entry.mountpoint)
    for place in (arena / "run/mounts").glob("*/*"):
        set_immutable(str(place), immutable=False)


ALL = ["all", "apps/gallery"]


def families(site: Site) -> list[list[int]]:
    """Of each mount: its daemon, the launcher, the zygote and the workers."""
    found = []
    for status in json.loads(site("status", "--json").stdout):
        zygote = status["sniffer"]["zygote_pid"]
        workers = status["sniffer"]["worker_pids"]
        assert workers
        found.append([status["pid"], parent_of(zygote), zygote, *workers])
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def objects(pid: int) -> set[tuple[str, int]]:
    """What a process has open that another process can reach only by its descriptors."""
    found = {(os.readlink(fd), fd.stat().st_ino) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return {one for one in found if one[0].startswith(("socket:", "pipe:", "/memfd:"))}


@pytest.mark.timeout(240)
def test_a_site_goes_up_and_down_together(site: Site, store: Path) -> None:
    site.write(store, "gallery", more="keeper: false")
    said = site("up")
    assert said.returncode == 0, said
    assert [line.partition(":")[0] for line in said.stdout.splitlines()] == ["gallery", "shared"]
    assert site.mounted() == ALL
    hidden, shown = site.arena / "apps/gallery/Documents", site.arena / "apps/gallery/DCIM/Camera/a.jpg"
    assert call_as(GALLERY, code_of, os.stat, hidden) == "ENOENT"
    assert call_as(GALLERY, code_of, os.stat, shown) == ""
    assert call_as(MAPS, code_of, os.stat, shown) == "EACCES"

    daemons = {status["mountpoint"]: status["pid"] for status in json.loads(site("status", "--json").stdout)}
    assert len(daemons) == 2
    one, other = ({one for pid in family for one in objects(pid)} for family in families(site))
    assert not one & other
    again = site("up")
    assert again.returncode == 0, again
    assert again.stdout.count("up already") == 2

    killed = f"{site.arena}/apps/gallery"
    os.kill(daemons[killed], signal.SIGKILL)
    wait_for(lambda: site("status").returncode == 1, "the daemon has ended", 60)
    status = site("status")
    assert status.returncode == 1
    assert f"gallery ({killed}): dead: its daemon has ended" in status.stderr
    assert "1 of 2 mounts are up" in status.stderr
    back = site("up")
    assert back.returncode == 0, back
    assert "gallery: up again: its daemon had ended" in back.stdout
    assert call_as(GALLERY, code_of, os.stat, shown) == ""

    down = site("down")
    assert down.returncode == 0, down
    assert site.mounted() == []
    assert site("down").returncode == 0
    assert site("status").stdout == ""  # other mounts of the machine may answer
    trail = {path.parent.name for path in (site.arena / "trail").glob("*/*.jsonl")}
    assert len(trail) == 2  # one root, and a chain for each mount


def test_links_to_directories_are_those_of_the_site(site: Site) -> None:
    text = site.file.read_text()
    shared = text[text.index("  - {shared") :]
    above = site.arena / "run/mounts/home/shared"
    for directories in ({"photos": "/DCIM", "music": "/Music/a"}, {"photos": "/Photos"}, {}):
        more = ", ".join(f"{name}: {there}" for name, there in directories.items())
        tv = f"  - {{shared: true, container: tv, path: /data/media, directories: {{{more}}}}}\n"
        site.file.write_text(text.replace(shared, tv))
        said = site("up", "--places")
        assert said.returncode == 0, said
        links = {entry.name: os.readlink(entry.path) for entry in os.scandir(above) if entry.is_symlink()}
        assert links == {name: f"media{there}" for name, there in directories.items()}
        assert {code_of(os.listdir, above / name) for name in links} <= {"ENOTCONN"}
    assert code_of(os.mkdir, above / "photos") == "EPERM"  # a container's own files would end with /run
    set_immutable(str(above), immutable=False)  # as on file systems without this flag
    (above / "photos").mkdir()
    site.file.write_text(text.replace(shared, tv.replace("{}", "{photos: /DCIM}")))
    said = site("up", "--places")
    assert (said.returncode, f"{above}/photos is in the way of a link to" in said.stderr) == (0, True), said


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_a_mount_is_found_where_a_symlink_leads(site: Site, store: Path) -> None:
    (site.arena / "real").mkdir()
    (site.arena / "apps").mkdir()
    (site.arena / "apps/gallery").symlink_to(site.arena / "real")
    assert site("up").returncode == 0
    assert site.mounted() == ["all", "real"]
    status = site("status")
    assert status.returncode == 0, status
    down = site("down")
    assert down.returncode == 0, down
    assert site.mounted() == []


@pytest.mark.timeout(240)
def test_a_site_goes_down_also_if_a_daemon_hangs(site: Site) -> None:
    assert site("up").returncode == 0
    pids = {status["mountpoint"]: status["pid"] for status in json.loads(site("status", "--json").stdout)}
    hung = pids[f"{site.arena}/all"]  # the last mount of the site, and so the first that `down` takes
    os.kill(hung, signal.SIGSTOP)
    try:
        status = site("status", "--json")
        assert status.returncode == 1
        assert [one["mountpoint"] for one in json.loads(status.stdout)] == [f"{site.arena}/apps/gallery"]
        assert f"shared ({site.arena}/all): the daemon at " in status.stderr
        down = site("down", "--lazy")
        assert site.mounted() == [], down
        assert "gallery: down" in down.stdout
    finally:
        os.kill(hung, signal.SIGCONT)
    wait_for(lambda: not Path(f"/proc/{hung}").exists(), "it ends then, and writes no more", 30)


def _holds(channel, path: Path) -> None:
    with fd_of(path, os.O_RDONLY):
        channel.send("open")
        channel.recv()


def test_a_warning_about_the_store_is_given_once_for_all_mounts(site: Site, store: Path) -> None:
    """`policyfs init` over a library with three programs gave three."""
    store.chmod(0o755)
    said = site("up")
    assert (said.returncode, said.stderr.count("apps can bypass the mount")) == (0, 1), said
    assert said.stderr.startswith("policyfs: warning: "), said
    assert site("down").returncode == 0


@pytest.mark.timeout(240)
def test_changed_options_are_told_and_wait_for_a_restart(site: Site, store: Path) -> None:
    gallery = site.arena / "apps/gallery"
    assert site("up").returncode == 0
    before = {one["mountpoint"]: one["pid"] for one in json.loads(site("status", "--json").stdout)}
    site.write(store, "gallery", more="read_only: true, nodes_max: '500'")
    told = (
        f"gallery ({gallery}) is not as in the site: nodes_max is not set, but the site file says 500;"
        " read_only is false, but the site file says true"
    )

    said = site("up")
    assert said.returncode == 0, "a unit of systemd that fails would end the daemons that it has made"
    assert f"gallery: up with other options at {gallery}" in said.stdout
    assert "shared: up already" in said.stdout
    assert told in said.stderr
    assert said.stderr.endswith(f"`policyfs up --restart {site.file}` unmounts and mounts it again\n")
    status = site("status", "--json")
    assert status.returncode == 1
    assert told in status.stderr
    found = {one["mountpoint"]: one for one in json.loads(status.stdout)}
    assert {path: one["pid"] for path, one in found.items()} == before
    assert found[str(gallery)]["problems"] == [
        "not as in the site: nodes_max is not set, but the site file says 500",
        "not as in the site: read_only is false, but the site file says true",
    ]
    assert found[f"{site.arena}/all"]["problems"] == []
    assert found[str(gallery)]["nodes_max"] == default_nodes(usable_bytes(), mounts=2)

    user = start_as(GALLERY, _holds, gallery / "DCIM/Camera/a.jpg")
    assert user.receive() == "open"
    busy = site("up", "--restart")
    assert busy.returncode == 1, busy
    assert "was not restarted" in busy.stderr
    assert "busy" in busy.stderr
    user.send("end")
    user.result()

    again = site("up", "--restart")
    assert again.returncode == 0, again
    assert f"gallery: up again: its options changed at {gallery}" in again.stdout
    after = {one["mountpoint"]: one["pid"] for one in json.loads(site("status", "--json").stdout)}
    assert after[str(gallery)] != before[str(gallery)]
    assert after[f"{site.arena}/all"] == before[f"{site.arena}/all"]
    assert site("up").returncode == 0
    assert call_as(GALLERY, os.statvfs, gallery).f_flag & os.ST_RDONLY

    site.write(store)
    surplus = f"{gallery}: the site does not name this mount; `policyfs up --restart {site.file}` unmounts it"
    assert surplus in site("status").stderr
    said = site("up", "--restart")
    assert said.returncode == 0, said
    assert f"{gallery}: down, as the site does not name it any more" in said.stdout
    assert site.mounted() == ["all"]
    assert call_as(GALLERY, code_of, os.listdir, gallery) == "ENOTCONN"
    assert site("down").returncode == 0


@pytest.mark.timeout(240)
def test_a_mount_with_a_keeper_is_renewed_while_it_is_in_use(site: Site, store: Path) -> None:
    gallery = site.arena / "apps/gallery"
    site.write(store, "gallery", more="keeper: true")
    assert site("up").returncode == 0
    before = _daemon(site, "gallery")
    user = start_as(GALLERY, _holds, gallery / "DCIM/Camera/a.jpg")
    assert user.receive() == "open"
    site.write(store, "gallery", more="keeper: true, copy_max: 1M")
    said = site("up")
    assert said.stderr.endswith(f"`policyfs up --restart {site.file}` renews it while it is in use\n")
    said = site("up", "--restart")
    assert said.returncode == 0, said
    assert "unmounted" not in said.stderr
    assert _daemon(site, "gallery") != before
    assert site("up").stderr == ""
    user.send("end")
    user.result()
    assert site("down").returncode == 0


def _daemon(site: Site, app: str) -> object:
    statuses = json.loads(site("status", "--json").stdout)
    return next(one["pid"] for one in statuses if one["mountpoint"].endswith(f"/{app}"))


@pytest.mark.timeout(240)
def test_a_restart_that_would_fail_unmounts_nothing(site: Site, store: Path) -> None:
    assert site("up").returncode == 0
    before = _daemon(site, "gallery")
    text = site.file.read_text("utf-8")
    policy = site.arena / "policy.yaml"
    example = f"{CHECKOUT}/policies/family-photos.yaml"
    good = Path(example).read_text("utf-8")
    for broken in (good + "nonsense: 1\n", good.replace("gallery", "other")):
        policy.write_text(broken, "utf-8")
        site.file.write_text(text.replace(example, str(policy)), "utf-8")
        said = site("up", "--restart")
        assert said.returncode == 1, said
        assert "was not restarted" in said.stderr
        assert "nonsense" in said.stderr or "no app 'gallery'" in said.stderr
        assert site.mounted() == ALL
    site.file.write_text(text, "utf-8")
    assert _daemon(site, "gallery") == before
    assert site("down").returncode == 0


@pytest.mark.timeout(240)
def test_a_mount_that_fails_takes_down_what_was_started(site: Site, store: Path) -> None:
    site.write(store, "gallery", more="posix: true, no_xattrs: true")  # the shared mount can be made
    said = site("up")
    assert said.returncode == 1
    assert "the site home is not up, and nothing new is mounted" in said.stderr
    assert f"gallery ({site.arena}/apps/gallery): --posix and --no-xattrs cannot be used" in said.stderr
    assert site.mounted() == []
