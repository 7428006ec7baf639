"""A mount that writes, whose daemon is killed: no call fails, and each change is there exactly once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tests.support.programs.bookkeeping
import tests.support.programs.looped
import tests.support.programs.tree_changes
from tests.mount.test_takeover import REST_S, kill_daemon, records
from tests.support.machine.counts import PATIENCE, SOAK, count, first
from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

APP = 10110
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  editor: {{uid: {APP}}}
rules:
  - {{id: editor, allow: [see, read, write, create, delete, attr], who: {{app: editor}}, paths: "/Work/**"}}
"""
CHANGES = Path(tests.support.programs.tree_changes.__file__).read_text()
BOOKS = Path(tests.support.programs.bookkeeping.__file__).read_text()
LOOPED = Path(tests.support.programs.looped.__file__).read_text()
OF_APP = ("--app", "editor")
LONGEST_S = (2.0 if SOAK else 10.0) * PATIENCE
"""A call that takes longer has failed. `make test` has more processes than processors."""
PROGRAMS = [
    *((CHANGES, str(seed), str(seed)) for seed in range(2)),
    *((BOOKS, f"books/{mode}", mode) for mode in ("delete", "wal") for _ in range(2)),
]
WAYS: list[tuple[tuple[str, ...]]] = [
    ((),), (OF_APP,), ((*OF_APP, "--no-passthrough"),), (("--no-passthrough",),), (("--posix",),),
]  # fmt: skip
LOOPS = [(LOOPED, name, name) for name in ("git", "rsync", "fio", "save", "flock", "flock")]


def as_app(*words: str) -> list[str]:
    return ["setpriv", f"--reuid={APP}", f"--regid={APP}", "--clear-groups", *words]


@contextmanager
def changing(
    work: Path, run: Callable[..., list[str]] = as_app, programs: Sequence[tuple[str, str, str]] = PROGRAMS
) -> Iterator[list[list[object]]]:
    """Programs that change files; afterwards the list has their last words. work: that directory in a mount.
    run: makes their command lines."""
    told: list[list[object]] = []
    with ExitStack() as stack:
        processes = []
        for program, place, argument in programs:
            words = run("/usr/bin/python3", "-c", program, str(work / place), argument, str(REST_S))
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield told
        for process in processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended, and tells why
                process.stdin.write("end\n")
                process.stdin.close()
        for process in processes:
            assert process.stdout is not None
            told.append(json.loads(process.stdout.read()))  # some may be in its buffer already
            assert process.wait(60) == 0


@pytest.fixture
def work(empty_store: Path) -> Path:
    for name in ("Work", "Work/0", "Work/1", "Work/books"):
        (empty_store / name).mkdir()
        os.chown(empty_store / name, APP, APP)
    return empty_store


def kept(mounts, store: Path, *options: str, policy: str = POLICY) -> Mount:
    return mounts.start(policy, store, *OF_APP, "--keeper", *options)


def _status(mount: Mount) -> dict[str, Any]:
    """Return the daemon's answer; nothing while it dies."""
    with suppress(AssertionError):
        return mount.status()
    return {}


def died_in_changes(
    mounts, work: Path, options: tuple[str, ...], deaths: int, programs: Sequence[tuple[str, str, str]]
) -> tuple[int, int, list[float]]:
    """Daemons die in the changes of programs, and each change is there once. Return how many have died, how
    many changes came again, and the longest call of each program that times its calls."""
    work.chmod(0o755 if "--posix" in options else 0o700)
    mount = mounts.prepare(POLICY, work, "--keeper", *options)
    mount.program = ("tests.support.mount.dying",)
    mount.start()
    with changing(mount / "Work", programs=programs) as told:
        wait_for(lambda: len(records(mount, "mount")) > deaths, "the daemons die", 5.0 * deaths)
    status = wait_for(partial(_status, mount), "the last of them answers")
    longest: list[float] = []
    again, deaths = status["takeover"]["again"], status["takeover"]["count"]
    for failed, calls, longest_s, differences in told:
        assert (failed, differences) == ([], [])
        assert calls > 20
        longest += [longest_s] if isinstance(longest_s, float) else []
    print("deaths", deaths, "changes that came again", again, "longest calls", longest)
    assert status["takeover"]["unknown"] == 0
    assert status["bugs"] == 0
    return deaths, again, longest


@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize("options", first(1, WAYS))
def test_each_change_is_made_once_by_daemons_that_die_in_changes(
    mounts, work: Path, options: tuple[str, ...]
) -> None:
    deaths, again, longest = died_in_changes(mounts, work, options, count(3, 60), PROGRAMS)
    assert max(longest) < LONGEST_S
    assert again * 3 >= deaths or "--no-passthrough" in options or not SOAK  # a mediated WRITE has no intent


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("options", [options for (options,) in WAYS])
def test_programs_of_people_go_on_beside_many_deaths(mounts, work: Path, options: tuple[str, ...]) -> None:
    deaths, again, longest = died_in_changes(mounts, work, options, 250, [*PROGRAMS, *LOOPS])
    for (program, *_), longest_s in zip(PROGRAMS, longest, strict=True):
        assert longest_s < LONGEST_S * (3 if program is BOOKS else 1)  # a statement has many calls
    assert again >= 0.3 * deaths or "--no-passthrough" in options  # with these, more deaths fall on opens


def test_an_open_file_that_was_removed_and_one_with_two_names_go_on(mounts, work: Path) -> None:
    mount = kept(mounts, work, "--no-passthrough")
    at = mount.mountpoint / "Work/0"

    def app(channel) -> None:
        flags = os.O_RDWR | os.O_CREAT
        removed, linked, log = (os.open(at / name, flags) for name in ("gone", "one", "log"))
        for fd, data in ((removed, b"removed"), (linked, b"linked"), (log, b"first ")):
            os.write(fd, data)
        (at / "gone").unlink()
        (at / "two").hardlink_to(at / "one")
        channel.send("ready")
        channel.recv()
        os.write(removed, b", and written")
        os.write(linked, b" twice")
        with open(at / "log", "ab", buffering=0) as file:
            file.write(b"second")
        os.fsync(removed)
        channel.send((
            os.pread(removed, 99, 0), os.fstat(removed).st_nlink, (at / "two").read_bytes(),
            os.fstat(linked).st_nlink, os.pread(log, 99, 0), sorted(os.listdir(at)),
        ))  # fmt: skip

    child = start_as(APP, app)
    assert child.receive() == "ready"
    kill_daemon(mount)
    child.send("go on")
    assert child.receive() == (
        b"removed, and written", 0, b"linked twice", 2, b"first second", ["log", "one", "two"]
    )  # fmt: skip
    child.result()
    assert mount.status()["bugs"] == 0


PHOTO = jpegs.photo_with(jpegs.exif(place=False))
WITH_PLACE = jpegs.photo_with(jpegs.exif())


@pytest.mark.parametrize("rule", ["content: image/jpeg", "no: [location]"])
@pytest.mark.parametrize("options", [OF_APP, ()], ids=["app", "shared"])
def test_writers_whose_bytes_were_checked_go_on(
    mounts, work: Path, rule: str, options: tuple[str, ...]
) -> None:
    """And what they write from then on is checked."""
    checked = POLICY + f'  - {{id: photos, require: {{{rule}}}, paths: "/Work/**"}}\n'
    mount = mounts.start(checked, work, "--keeper", *options)
    at = mount.mountpoint / "Work/0"
    names = "written", "new", "refused"

    def app(channel) -> None:
        written, new, refused = (open(at / name, "w+b", buffering=0) for name in names)  # noqa: SIM115
        with written, new:
            written.write(PHOTO)
            os.fsync(written.fileno())
            channel.send("ready")
            channel.recv()
            written.write(b"and a trailer")
            new.write(PHOTO)
            code = code_of(refused.write, b"no photo" if "image" in rule else WITH_PLACE)
            codes = [code_of(os.fsync, file.fileno()) for file in (written, new, refused)]
            code_of(refused.close)
            channel.send((codes[:2], code or codes[2], os.pread(written.fileno(), 1 << 20, 0)))

    child = start_as(APP, app)
    assert child.receive() == "ready"
    assert mount.status()["takeover"]["possible"] is True
    kill_daemon(mount)
    child.send("go on")
    whole = PHOTO + b"and a trailer"
    assert child.receive() == (["", ""], "EPERM", whole)
    child.result()
    stored = [work / "Work/0" / name for name in names]
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")
    assert [path.read_bytes() for path in stored[:2]] == [whole, PHOTO]
    assert not stored[2].exists() or stored[2].read_bytes() == b""
    assert mount.status()["bugs"] == 0
