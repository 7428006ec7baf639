"""A daemon that is killed while bytes wait for their check: the upload goes on, and is judged as ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_takeover import kill_daemon, let_live, records
from tests.mount.test_takeover_writes import APP, OF_APP, PHOTO, POLICY, WITH_PLACE, work  # noqa: F401
from tests.support.machine.counts import daily, first
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples.jpegs import leaks

RULES = {
    "content": "content: image/jpeg",
    "draft": "content: image/jpeg, on_refused: quarantine",
    "no": "no: [location]",
    "kept": "no: [location], on_refused: quarantine",
    "clean": "clean: [location]",
}


def policy_of(rule: str) -> str:
    needs, _, refused = RULES[rule].partition(", on_refused: ")
    told = f", on_refused: {refused}" if refused else ""
    return POLICY + f'  - {{id: photos, require: {{{needs}}}{told}, paths: "/Work/**"}}\n'


def checked(mounts, store: Path, rule: str, *options: str) -> Mount:
    return mounts.start(policy_of(rule), store, "--keeper", *options)


def kept_files(mount: Mount) -> int:
    return len([one for one in records(mount, "event") if "kept as" in str(one.get("note"))])


@pytest.mark.parametrize("options", daily([OF_APP, ()], OF_APP), ids=["app", "shared"])
@pytest.mark.parametrize("rule", RULES)
def test_uploads_go_on(mounts, work: Path, rule: str, options: tuple[str, ...]) -> None:  # noqa: F811
    mount = checked(mounts, work, rule, *options)
    at = mount.mountpoint / "Work/0"
    names = "good", "appended", "bad", "again"
    flags = os.O_RDWR | os.O_CREAT
    bad = b"no photo" * 99 if rule in {"content", "draft"} else WITH_PLACE
    middle = 300 if bad is WITH_PLACE else 2

    def app(channel) -> None:
        good, again = (os.open(at / name, flags) for name in ("good", "again"))
        appended, refused = os.open(at / "appended", flags | os.O_APPEND), os.open(at / "bad", flags)
        for fd in (good, again, appended):
            os.write(fd, PHOTO[:2])
        os.write(refused, (PHOTO if rule == "content" else bad)[:middle])
        channel.send("half")
        channel.recv()
        sizes = [os.fstat(fd).st_size for fd in (good, again, appended)]
        for fd in (good, again, appended):
            assert os.pread(fd, 9, 0) == PHOTO[:2]
            os.write(fd, PHOTO[2:])
        code = code_of(os.pwrite, refused, bad, 0) or code_of(os.fsync, refused)
        codes = [code_of(os.close, fd) for fd in (good, appended, again)]
        channel.send((sizes, codes, code))
        channel.recv()
        code_of(os.close, refused)

    child = start_as(APP, app)
    assert child.receive() == "half"
    status = mount.status()
    assert status["takeover"]["possible"] is True
    kill_daemon(mount)
    child.send("go on")
    expected = "" if rule == "clean" else "EPERM"
    assert child.receive() == ([2, 2, 2], ["", "", ""], expected)
    child.send("end")
    child.result()
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")
    stored = [work / "Work/0" / name for name in names]
    for path in (stored[0], stored[1], stored[3]):
        assert path.read_bytes() == PHOTO, path.name
    assert not stored[2].exists() or not leaks(stored[2].read_bytes())
    assert stored[2].exists() == (rule == "clean")
    if rule in {"draft", "kept"}:
        wait_for(lambda: kept_files(mount) == 1, "the refused file is kept, once", 10)
    assert mount.status()["bugs"] == 0


def is_over(mount: Mount, deaths: int) -> bool:
    """Whether so many daemons have died, and the next one has no open handles."""
    try:
        status = mount.status()
    except AssertionError:  # no daemon answers at this moment
        return False
    return status["takeover"]["count"] == deaths and not status["handles"]["open"]


STEPS = {
    "content": (
        "Checker._commit before 1", "ranges.write before 1", "ranges.write after 1",
        "Checker._commit after 1",
    ),
    "no": (
        "Drafts._check before 1", "Drafts._check after 1", "DraftStorage._put_bytes after 1",
        "DraftStorage._put_piece after 1", "DraftStorage._cut after 1", "Draft.give after 1",
    ),
    "clean": ("Drafts._check after 1", "DraftStorage._put_piece after 1", "DraftStorage._cut after 1"),
}  # fmt: skip


@pytest.mark.timeout(200)
@pytest.mark.parametrize("rule", first(1, [(rule,) for rule in reversed(STEPS)]))
def test_a_daemon_that_dies_at_a_step_of_a_check_has_stored_all_or_nothing(
    mounts, work: Path, rule: str  # noqa: F811
) -> None:  # fmt: skip
    """Each file is there before, longer than the new bytes. Each second upload has bytes that are refused."""
    steps = [step for step in STEPS[rule] for _ in range(1 + (rule == "no" and step.startswith("Drafts.")))]
    mount = mounts.prepare(policy_of(rule), work, "--keeper", *OF_APP)
    mount.program = ("tests.support.mount.dying_checks",)
    mount.environment["POLICYFS_TEST_STEPS"] = ",".join(steps)
    bad, old = WITH_PLACE + bytes(9), PHOTO + b"old" * 500_000
    new = (WITH_PLACE if rule == "clean" else PHOTO) + bytes(1_300_000)
    for name in ("reference", *range(len(steps))):
        path = work / f"Work/0/{name}"
        path.write_bytes(old)
        os.chown(path, APP, APP)
    mount.start()

    def upload(name: str, data: bytes) -> Callable[[], list[str]]:
        def app() -> list[str]:
            fd = os.open(mount.mountpoint / "Work/0" / name, os.O_RDWR)
            codes = [code_of(os.truncate, fd, 0)] * (rule == "content")
            codes += [code_of(os.write, fd, data[:700]), code_of(os.write, fd, data[700:])]
            codes += [code_of(os.truncate, fd, len(data)), code_of(os.close, fd)]
            return codes

        return app

    assert set(call_as(APP, upload("reference", new))) == {""}
    stored = (work / "Work/0/reference").read_bytes()
    assert len(stored) == len(new)
    assert not leaks(stored)
    for number, step in enumerate(steps):
        let_live()
        is_bad = rule == "no" and step.startswith("Drafts.") and number % 2
        assert call_as(APP, lambda: code_of(os.stat, mount.mountpoint / "Work/0/arm")) == "ENOENT"
        codes = call_as(APP, upload(str(number), bad if is_bad else new))
        assert set(codes) == ({"", "EPERM"} if is_bad else {""}), (step, codes)
        wait_for(lambda: is_over(mount, number + 1), step, 20)  # noqa: B023
        assert (work / f"Work/0/{number}").read_bytes() == (old if is_bad else stored), step
    assert mount.status()["bugs"] == 0
