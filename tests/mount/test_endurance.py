"""Eight uids at ordinary work for hours, while the policy is reloaded and sniffing workers are killed.

A shared mount and an app mount of one store. Every program must end as it would natively, or as
the policy orders (ORDERED); the trail may hold no other denial. What the daemons hold is sampled
all the time and must be flat, and in the end they hold what they held before.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from tests.support.machine.images import file_system
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.machine.trend import Trend, trend
from tests.support.mount.daemons import Mount
from tests.support.mount.holdings import anonymous_memory, descriptors, settled
from tests.support.mount.stores import Mounts
from tests.support.programs import clients, crowd, databases
from tests.support.programs.clients import (
    Albums,
    Backup,
    Bookkeeper,
    Coder,
    Desk,
    Photographs,
    Studio,
    Syncer,
)

# POLICYFS_ENDURANCE_S: some other number of seconds, for whoever looks for something.
SECONDS = float(os.environ.get("POLICYFS_ENDURANCE_S") or 3600)
RELOAD_S = 10.0
KILL_S = 5.0
ZYGOTE_S = (8.0, 120.0)
"""When the parent of the workers is killed first, and how often later: soon again means a delay."""
SAMPLE_S = 10.0

APPS = {name: 10301 + number for number, name in enumerate(
    ("coder", "books", "clerk", "syncer", "camera", "gallery", "studio", "backup")
)}  # fmt: skip
ALBUMS = ("DCIM/camera", "DCIM/gallery", "DCIM/window")
KEPT = ("photo_with_place.jpg", "photo_without_place.jpg")
LARGE = "photo_8mb.jpg"
OWNERS = {
    "Work/coder": "coder", "Work/books": "books", "Work/clerk": "clerk", "Work/accounts": "books",
    "Sync": "syncer", "Own/gallery": "gallery", "Movies/studio": "studio", "DCIM/camera": "camera",
    "DCIM/gallery": "gallery", "DCIM/window": "gallery",
}  # fmt: skip
PRIVATE = ("Private", "Private/diary.txt", "Private/none")

HEAD = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: NAME}
apps:
  coder: {uid: 10301}
  books: {uid: 10302}
  clerk: {uid: 10303}
  syncer: {uid: 10304}
  camera: {uid: 10305}
  gallery: {uid: 10306}
  studio: {uid: 10307}
  backup: {uid: 10308}
sets:
  files: ["text/*", "application/*", "image/*", "audio/*", "video/*"]
rules:
"""
RULES = (
    "{id: code, allow: [all], who: {app: coder}, paths: ['/Work/coder/***']}",
    "{id: accounts, allow: [all], who: {app: [books, clerk]}, paths: ['/Work/{books,clerk,accounts}/***']}",
    "{id: sync, allow: [all], who: {app: syncer}, paths: ['/Sync/***']}",
    "{id: sync.kinds, require: {content: '@files'}, paths: ['/Sync/**']}",
    "{id: own, allow: [all], who: {app: gallery}, paths: ['/Own/gallery/***']}",
    "{id: own.places, require: {redact: location}, paths: ['/Own/**'], unless: OWN}",
    "{id: albums, allow: [all], who: {app: [camera, gallery]}, paths: ['/DCIM/{camera,gallery,window}/***']}",
    "{id: kept, allow: [see, read], who: {app: [camera, gallery]}, paths: ['/DCIM/kept/***']}",
    "{id: places, require: {redact: location}, who: {not: {app: backup}}, paths: ['/DCIM/**'], unless: OWN}",
    "{id: photos, require: {content: ['image/*']}, paths: ['/DCIM/**']}",
    "{id: films, allow: [all], who: {app: studio}, paths: ['/Movies/***']}",
    "{id: films.kinds, require: {content: ['image/*', 'audio/*', 'video/*']}, paths: ['/Movies/**']}",
    "{id: private, deny: [all], who: {not: {app: backup}}, paths: ['/Private/***'], errno: ENOENT}",
    "{id: all, allow: [see, read], who: {app: backup}, paths: ['/**']}",
)
MORE = (
    "{id: nowhere, deny: [all], paths: ['/Nowhere/***']}",
    "{id: dry, deny: [delete], mode: monitor, who: {app: coder}, paths: ['/Work/**']}",
    "{id: watched, require: {content: '@files'}, paths: ['/Movies/none/**'], audit: required}",
)


def policy(name: str, rules: tuple[str, ...]) -> str:
    """The rules, in the order given."""
    lines = "".join(f"  - {rule}\n" for rule in rules)
    return HEAD.replace("NAME", name) + lines.replace("OWN", "{owner: self}")


POLICIES = (policy("day", RULES), policy("night", MORE + tuple(reversed(RULES))))
"""They allow and forbid the same to these apps below the directories that are there."""

MIB = 1 << 20
BOUNDS = {
    "anonymous bytes": 12 * MIB,  # caches of kinds and of lines of the trail fill for long
    "resident bytes": 24 * MIB,
    "descriptors": 12,
    "directory descriptors": 48,
    "nodes": 200,
    "handles": 12,
    "backing ids": 12,
    "leases": 2,
    "copies": 8,
    "bytes of copies": 16 * MIB,
    "threads": 4,
    "processes": 2,
    "trail queue": 500,
}
"""By how much the straight line through the last three quarters of the samples may rise."""

LONG_S = 600.0
SLACK = {"anonymous bytes": 24 * MIB, "leases": 3}
"""The same for a run so short that caches still fill."""


def ordered(event: dict) -> bool:
    """Whether the policy orders this denial, of what the clients do."""
    app, path, code = event["app"], event["path"], event["errno"]
    if app == "stranger" and event["uid"] == 0:  # no client, but lsof or the like, for the whole machine
        return True
    if app not in {"camera", "gallery"}:
        return False
    if path.startswith("/Private"):
        return code == "ENOENT"
    if path.startswith("/DCIM/kept/"):  # of a kind that cannot be redacted, or read-only
        return code == "EACCES"
    if event["operation"] in {"write", "release", "flush"}:
        return code == "EPERM" and path.endswith("/program.jpg")
    # Another's photo, while it is half written: nothing can be redacted in it.
    return event["operation"] in {"open", "read"} and path.startswith("/DCIM/") and code == "EACCES"


# ---------------------------------------------------------------- the place


@pytest.fixture
def busy_store(arena: Path, media: dict[str, Path]) -> Iterator[Path]:
    """A directory for each client, and what nobody changes."""
    with file_system("ext4", arena, "-b", "4096") as top:  # long symlinks need such blocks
        store = top / "store"
        store.mkdir(mode=0o700)
        for name, app in OWNERS.items():
            (store / name).mkdir(parents=True)
            os.chown(store / name, APPS[app], APPS[app])
        (store / "Work/accounts").chmod(0o777)
        for name in ("DCIM/kept", "Movies/kept", "Private"):
            (store / name).mkdir()
        for name in (*KEPT, LARGE, "hike.gpx"):
            shutil.copyfile(media[name], store / "DCIM/kept" / name)
        shutil.copyfile(media["video.mp4"], store / "Movies/kept/video.mp4")
        (store / "Private/diary.txt").write_text("dear diary\n")
        yield store


def home(arena: Path, name: str, uid: int) -> Path:
    """A directory of a client's own outside the mounts."""
    directory = arena / f"home-{name}"
    directory.mkdir(mode=0o700)
    os.chown(directory, uid, uid)
    return directory


def albums(mount: Mount, store: Path, arena: Path, mine: int) -> Albums:
    """What a photographer must know; the redacted bytes as the camera, who owns none of these, sees them."""
    kept, camera = store / "DCIM/kept", APPS["camera"]
    shown = {name: call_as(camera, Path.read_bytes, mount / f"DCIM/kept/{name}") for name in (*KEPT, LARGE)}
    assert all(shown[name] != (kept / name).read_bytes() for name in (KEPT[0], LARGE))
    copies = arena / f"redacted-{mine}"
    copies.mkdir()
    for name in KEPT:
        (copies / name).write_bytes(shown[name])
    tags = subprocess.run([*clients.ASK_TAGS, *KEPT], cwd=copies, capture_output=True, check=True).stdout
    return Albums(
        names=ALBUMS, mine=mine, others=(1, 2) if mine == 0 else (0,),
        pictures=tuple(crowd.Picture((kept / name).read_bytes(), shown[name]) for name in KEPT),
        kept="DCIM/kept", kept_names=KEPT, tags=tags,
        large=LARGE, large_digest=sha256(shown[LARGE]).hexdigest(),
        unreadable="hike.gpx", hidden=PRIVATE,
    )  # fmt: skip


@dataclass
class Crew:
    """The clients by name, and what they said at their end."""

    running: dict[str, Child] = field(default_factory=dict)
    accounts: dict[str, object] = field(default_factory=dict)
    done: dict[str, Counter[str]] = field(default_factory=dict)

    def look(self) -> bool:
        """Hear those who have ended; raises what went wrong with any. True once all have."""
        for name, child in list(self.running.items()):
            if child.channel.poll(0):
                self.accounts[name], self.done[name] = child.result(10)
                del self.running[name]
        return not self.running

    def kill(self) -> None:
        """End those who are still there."""
        for child in self.running.values():
            child.kill()


def jobs_of(shared: Mount, window: Mount, store: Path, arena: Path) -> dict[str, tuple]:
    """Who does what: mount, app, sort of client, and what that must know."""
    parts = ("DCIM/kept", "Movies/kept", "Private")
    truth = {name: text for name, text in clients.digests(store).items() if name.startswith(parts)}
    return {
        "coder": (shared, "coder", Coder, "Work/coder"),
        "window coder": (window, "gallery", Coder, "Own/gallery"),
        "books": (shared, "books", Bookkeeper, "Work/accounts/shared.db", "Work/books", 1),
        "clerk": (shared, "clerk", Bookkeeper, "Work/accounts/shared.db", "Work/clerk", 2),
        "syncer": (shared, "syncer", Syncer, "Sync"),
        "camera": (shared, "camera", Photographs, albums(shared, store, arena, 0)),
        "gallery": (shared, "gallery", Photographs, albums(shared, store, arena, 1)),
        "window gallery": (window, "gallery", Photographs, albums(shared, store, arena, 2)),
        "studio": (shared, "studio", Studio, "Movies/kept/video.mp4", "Movies/studio"),
        "backup": (shared, "backup", Backup, parts, truth),
    }


def start_crew(jobs: dict[str, tuple], arena: Path) -> Crew:
    """All clients, at work."""
    crew = Crew()
    for name, (mount, app, sort, *arguments) in jobs.items():
        uid, seed = APPS[app], int.from_bytes(os.urandom(4), "little")
        desk = Desk(mount.mountpoint, home(arena, name, uid), SECONDS, seed)
        crew.running[name] = start_as(uid, clients.work, sort, desk, *arguments)
    return crew


# ---------------------------------------------------------------- looking on


def sample(mount: Mount) -> dict[str, int]:
    """What a daemon holds at the moment."""
    status = mount.status()
    resident = int(Path(f"/proc/{mount.pid}/statm").read_text().split()[1])
    return {
        "anonymous bytes": anonymous_memory(mount.pid),
        "resident bytes": resident * os.sysconf("SC_PAGESIZE"),
        "descriptors": sum(descriptors(mount).values()),
        "directory descriptors": status["directory_descriptors"],
        "nodes": status["nodes"],
        "handles": status["handles"]["open"],
        "backing ids": status["backing_ids"],
        "leases": status["leases"]["held"],
        "copies": status["copies"]["count"],
        "bytes of copies": status["copies"]["bytes"],
        "threads": len(os.listdir(f"/proc/{mount.pid}/task")),
        "processes": len(status["sniffer"]["worker_pids"]),
        "trail queue": status["trail"]["queued"],
    }


class Troubles:
    """What happens to the mounts meanwhile: reloads and killed workers, each when it is due."""

    def __init__(self, mounts: list[Mount]) -> None:
        self.mounts = mounts
        self.done: Counter[str] = Counter()
        self._chance = Random(7)
        now = time.monotonic()
        self._due = {
            self.reload: now + RELOAD_S,
            self.kill_worker: now + KILL_S,
            self.kill_zygote: now + ZYGOTE_S[0],
        }
        self._every = {self.reload: RELOAD_S, self.kill_worker: KILL_S, self.kill_zygote: ZYGOTE_S[1]}

    def make(self) -> None:
        """What is due."""
        for trouble, due in self._due.items():
            if time.monotonic() >= due:
                trouble()
                self.done[trouble.__name__] += 1
                self._due[trouble] = time.monotonic() + self._every[trouble]

    def reload(self) -> None:
        """The other policy, in both mounts."""
        for mount in self.mounts:
            mount.policy.write_text(POLICIES[(self.done["reload"] + 1) % 2])
            said = mount.reload()
            assert said.returncode == 0, said

    def kill_worker(self) -> None:
        """One sniffing worker, whatever it is at."""
        self._kill(self._chance.choice(self.mounts).status()["sniffer"]["worker_pids"])

    def kill_zygote(self) -> None:
        """The parent of the workers, and so all of them."""
        self._kill([self._chance.choice(self.mounts).status()["sniffer"]["zygote_pid"]])

    def _kill(self, pids: list[int]) -> None:
        if pids and pids[0]:
            try:
                os.kill(self._chance.choice(pids), 9)
            except ProcessLookupError:  # it ended by itself
                self.done["gone before"] += 1


def look_on(crew: Crew, mounts: list[Mount]) -> tuple[list[float], list[list[dict[str, int]]], Counter[str]]:
    """Make trouble and take samples until all clients are done; times in seconds, samples by mount."""
    times: list[float] = []
    samples: list[list[dict[str, int]]] = [[] for _ in mounts]
    troubles = Troubles(mounts)
    start = time.monotonic()

    def one_step() -> bool:
        troubles.make()
        if not times or time.monotonic() - start >= times[-1] + SAMPLE_S:
            times.append(time.monotonic() - start)
            for mount, series in zip(mounts, samples, strict=True):
                series.append(sample(mount))
        return crew.look()

    wait_for(one_step, "all clients are done", SECONDS + clients.TOOL_S)
    return times, samples, troubles.done


def trends(times: list[float], series: list[dict[str, int]]) -> dict[str, Trend]:
    """What each figure did."""
    return {name: trend(times, [one[name] for one in series]) for name in BOUNDS}


def told(event: dict) -> tuple:
    """By whom a denial was caused, and with what."""
    return tuple(event.get(name) for name in ("app", "uid", "exe", "operation", "syscall", "path", "errno"))


def denials(mount: Mount) -> Iterator[dict]:
    """Those on the trail, one by one: it may be long."""
    for line in mount.trail_lines():
        if b'"deny"' in line and (event := json.loads(line)).get("decision") == "deny":
            yield event


# ---------------------------------------------------------------- the test


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + clients.TOOL_S + 200)
def test_ordinary_work_for_hours(busy_store: Path, mounts: Mounts, arena: Path) -> None:
    options = ("--copy-max", "1M", "--copies-max", "4M", "--trail-segment", "16M")
    shared = mounts.prepare(POLICIES[0], busy_store, *options)
    window = mounts.prepare(POLICIES[0], busy_store, "--app", "gallery", *options)
    both = [shared, window]
    for mount in both:
        mount.executed = True  # one forked off the tests has their objects too, and collects garbage less
        mount.start()
    assert call_as(APPS["books"], databases.create, shared / "Work/accounts/shared.db") == "wal"
    for name in ("shared.db", "shared.db-wal", "shared.db-shm"):
        if (busy_store / "Work/accounts" / name).exists():
            (busy_store / "Work/accounts" / name).chmod(0o666)
    jobs = jobs_of(shared, window, busy_store, arena)
    before = [settled(mount) for mount in both]
    crew = start_crew(jobs, arena)
    try:
        times, samples, troubles = look_on(crew, both)
    finally:
        crew.kill()
    found = [trends(times, series) for series in samples]
    tell(crew, troubles, found, both)
    check_apps(crew, busy_store)
    for mount, was in zip(both, before, strict=True):
        assert not Counter(told(event) for event in denials(mount) if not ordered(event))
        assert_given_back(settled(mount), was)
        status = mount.status()
        assert status["trail"]["dropped"] == 0
        assert set(status["sniffer"]["failed"]) <= {"refused"}, status["sniffer"]
        assert status["policy"]["generation"] == 1 + troubles["reload"]
    rising = {
        f"{mount.mountpoint.name}: {name}": one
        for mount, figures in zip(both, found, strict=True)
        for name, one in figures.items()
        if one.growth > (BOUNDS if SECONDS >= LONG_S else SLACK).get(name, math.inf)
    }
    assert not rising


def assert_given_back(held: dict, before: dict) -> None:
    """All is as before, but for the sockets of workers that were killed and not needed again."""
    sockets = "socket:[N]"
    assert held["descriptors"].pop(sockets, 0) <= before["descriptors"].pop(sockets, 0)
    assert held == before


def check_apps(crew: Crew, store: Path) -> None:
    """Everybody did what they were there for, and the store holds what they left."""
    assert all(done["rounds"] for done in crew.done.values())
    pictures = [(store / "DCIM/kept" / name).read_bytes() for name in KEPT]
    for album, name in zip(ALBUMS, ("camera", "gallery", "window gallery"), strict=True):
        photos = (store / album).glob("p*.jpg")  # beside them may be what it was at when the time was over
        left = {os.fsencode(path.name): path.read_bytes() for path in photos}
        assert left == {photo: pictures[number] for photo, number in crew.accounts[name].items()}
    integrity, total, _ = databases.verdict(store / "Work/accounts/shared.db")
    assert (integrity, total) == ("ok", databases.ACCOUNTS * databases.BALANCE)
    for name in ("books", "clerk"):
        assert crew.done[name]["transfers"] >= Bookkeeper.TRANSFERS


def tell(crew: Crew, troubles: Counter[str], found: list[dict[str, Trend]], both: list[Mount]) -> None:
    """The figures, for whoever runs this with -s."""
    print(f"\n{SECONDS:g} s; {dict(troubles)}")
    for name, done in crew.done.items():
        print(f"{name}: {dict(sorted(done.items()))}")
    for mount, figures in zip(both, found, strict=True):
        status = mount.status()
        print(
            f"{status['app'] or 'shared'}: {status['sniffer']['requests']} sniffs, of them again"
            f" {status['sniffer']['repeated']}, {status['trail']['written']} events,"
            f" leases {status['leases']}, copies {status['copies']},"
            f" {sum(status['fuse'].values())} requests"
        )
        for name, one in figures.items():
            span = f"{one.lowest:.0f} to {one.highest:.0f}"
            print(f"  {name}: {span}, mean {one.mean:.0f}, rise {one.growth:.1f}")
        refusals = Counter((event["app"], event["operation"], event["errno"]) for event in denials(mount))
        print(f"  denials: {dict(refusals)}")
