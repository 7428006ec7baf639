"""B4: one app warms the kernel's caches; another asks for the same names. Then the policy is changed."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_reloading import LATE
from tests.attack.guards_writing import STOPS
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import content, error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

WARM, COLD = 10010, 10011
ROUNDS: Final = 40
HEAD = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  warm: {{uid: {WARM}}}
  cold: {{uid: {COLD}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
"""
APART = HEAD + '  - {id: warm, deny: [all], who: {app: cold}, paths: "/warm/***", errno: ENOENT}\n'
PARTLY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  warm: {{uid: {WARM}}}
  cold: {{uid: {COLD}}}
rules:
  - {{id: everyone, allow: [see, read], paths: "/***"}}
  - {{id: writes, allow: [write, create, delete, attr], who: {{app: warm}}, paths: "/common/***"}}
  - {{id: hidden, deny: [all], who: {{app: cold}}, paths: "/common/inner/***", errno: ENOENT}}
"""
BY_UID: Final = """\
apiVersion: policyfs/v1
kind: Policy
apps: {one: {}}
rules:
  - {id: rest, allow: [all], who: {app: one}, paths: "/common/***"}
"""
OF_ONE_UID: Final = {
    "a rule about a uid": BY_UID
    + f"""\
  - {{id: warm, allow: [all], who: {{app: one}}, paths: "/warm/***"}}
  - {{id: hidden, deny: [all], who: {{uid: {COLD}}}, paths: "/warm/***", errno: ENOENT}}
""",
    "a rule about all other uids": BY_UID
    + f"""\
  - {{id: warm, allow: [all], who: {{app: one, not: {{uid: {COLD}}}}}, paths: "/warm/***"}}
""",
    "the uid in a path": BY_UID
    + """\
  - {id: own, allow: [all], who: {app: one}, paths: "/users/{uid}/***"}
""",
}
"""One app, and names that it sees under one uid and not under the other."""
CLOSED = HEAD + '  - {id: closed, deny: [all], paths: "/common/***", errno: ENOENT}\n'


@pytest.fixture
def furnished(empty_store: Path) -> Path:
    for name in ("warm", "common"):
        (empty_store / name / "inner").mkdir(parents=True)
        (empty_store / name / "file").write_bytes(b"text")
        (empty_store / name / "link").symlink_to("file")
        for path in (empty_store / name, *(empty_store / name).rglob("*")):
            if not path.is_symlink():
                path.chmod(0o777)
    return empty_store


LOOKS: Final[dict[str, Callable[[str], object]]] = {
    "stat": lambda d: os.stat(d + "/file").st_size,
    "stat of the directory": lambda d: os.stat(d).st_nlink > 0,
    "open": lambda d: content(d + "/file"),
    "open as a path": lambda d: os.close(os.open(d + "/file", os.O_PATH)),
    "list": lambda d: sorted(os.listdir(d)),
    "readlink": lambda d: os.readlink(d + "/link"),
    "through a link": lambda d: os.stat(d + "/link").st_size,
    "inner": lambda d: os.stat(d + "/inner").st_nlink > 0,
    "access": lambda d: os.access(d + "/file", os.R_OK) or os.stat(d + "/file"),
    "xattrs": lambda d: os.listxattr(d + "/file"),
    "absent": lambda d: os.stat(d + "/absent"),
}


def look(directory: str) -> dict[str, str]:
    return {name: error(call, directory) for name, call in LOOKS.items()}


def _keep_warm(channel, directory: str) -> list[str]:
    """Asks for everything, again and again, so that the kernel keeps all it may; what ever changed."""
    first = look(directory)
    channel.send(first)
    odd = []
    while not channel.poll(0.002):
        if (now := look(directory)) != first:
            odd.append(str({name: said for name, said in now.items() if said != first[name]}))
    return odd


def beside(mount: Mount, directory: str) -> tuple[list[dict[str, str]], list[str]]:
    """What the cold app is told while the warm one asks for the same, and what that one lost by it."""
    warm = start_as(WARM, _keep_warm, directory)
    try:
        warm.receive()
        told = [call_as(COLD, look, directory) for _ in range(ROUNDS // 10)]
        told += call_as(COLD, lambda: [look(directory) for _ in range(ROUNDS)])
        warm.send("enough")
        return told, warm.result()
    finally:
        warm.kill()


def test_what_one_app_was_told_answers_nobody_else(mounts: Mounts, furnished: Path) -> None:
    """Attack B4.1: Let another app fill the kernel's caches, also with missing names, and request the same
    names
    Guard: policyfs/fs/kernel_cache/attributes.py::Timeouts.entry,
    policyfs/fs/kernel_cache/attributes.py::Timeouts.listing
    Without: ::test_it_does_where_the_kernel_keeps_all_it_is_told
    """
    mount = mounts.start(APART, furnished)
    told, odd = beside(mount, str(mount / "warm"))
    asked = [said for answers in told for name, said in answers.items() if name != "open as a path"]
    assert set(asked) == {"ENOENT"}
    assert odd == []
    # Nor does what one was not told: the cold app's misses are the warm one's names.
    assert call_as(COLD, lambda: [error(os.stat, mount / "warm/inner") for _ in range(3)]) == ["ENOENT"] * 3
    assert call_as(WARM, look, str(mount / "warm"))["inner"] == "True"
    assert "warm" not in call_as(COLD, lambda: os.listdir(mount))
    assert "warm" in call_as(WARM, lambda: os.listdir(mount))


def test_it_does_where_the_kernel_keeps_all_it_is_told(without, furnished: Path) -> None:
    mount = without("kept-for-all", APART, furnished)
    told, _ = beside(mount, str(mount / "warm"))
    assert any(answers["stat"] == "4" for answers in told)


def _of_one_uid(store: Path, case: str) -> str:
    """The directory that only one uid sees."""
    if case != "the uid in a path":
        return "warm"
    (store / "users").mkdir()
    (store / "warm").rename(store / "users" / str(WARM))
    return f"users/{WARM}"


@pytest.mark.parametrize("case", OF_ONE_UID)
def test_what_one_uid_was_told_answers_no_other(mounts: Mounts, furnished: Path, case: str) -> None:
    """In a mount that admits every uid as one app.

    Attack B4.3: The same for a name that only another uid of the app may see (`--any-uid`, rules about
    uids)
    Guard: policyfs/policy/rules/scope.py::Scope.uids_matter,
    policyfs/fs/kernel_cache/attributes.py::Timeouts.use
    Also: tests/unit/test_policy_rules_scope.py
    Without: ::test_it_does_where_one_app_counts_as_one_caller
    """
    place = _of_one_uid(furnished, case)
    mount = mounts.start(OF_ONE_UID[case], furnished, "--app", "one", "--any-uid")
    told, odd = beside(mount, str(mount / place))
    asked = [said for answers in told for name, said in answers.items() if name != "open as a path"]
    assert set(asked) == {"ENOENT"}
    assert odd == []
    above = (mount / place).parent
    assert call_as(WARM, lambda: Path(place).name in os.listdir(above))
    assert call_as(COLD, error, os.listdir, above) in {"['common']", "[]", "ENOENT"}


def test_it_does_where_one_app_counts_as_one_caller(without, furnished: Path) -> None:
    case = "a rule about a uid"
    mount = without("uids-alike", OF_ONE_UID[case], furnished, "--app", "one", "--any-uid")
    told, _ = beside(mount, str(mount / "warm"))
    assert any(answers["stat"] == "4" for answers in told)


def test_the_kernel_keeps_what_all_uids_are_told(mounts: Mounts, furnished: Path) -> None:
    mount = mounts.start(BY_UID, furnished, "--app", "one", "--any-uid")
    for uid in (WARM, COLD):
        assert call_as(uid, look, str(mount / "common"))["stat"] == "4"
    before = mount.fuse_counters()
    assert call_as(COLD, lambda: [os.stat(mount / "common/inner").st_nlink > 0 for _ in range(50)])
    after = mount.fuse_counters()
    assert sum(after.get(name, 0) - before.get(name, 0) for name in ("LOOKUP", "GETATTR")) < 10


def test_a_name_among_kept_ones_is_not_kept_if_it_is_hidden_from_one(mounts: Mounts, furnished: Path) -> None:
    """Beside it the kernel keeps what all see, though only some may write it.

    Attack B4.2: Find a hidden name through the kernel's caches, in a directory with names that all apps
    see and that the kernel keeps
    Guard: policyfs/policy/rules/distinctions.py::Distinctions.sight,
    policyfs/policy/rules/distinctions.py::Distinctions.below
    Also: tests/property/test_policy_distinctions.py
    Without: ::test_it_is_found_where_the_analysis_says_that_nobody_differs
    """
    mount = mounts.start(PARTLY, furnished)
    told, odd = beside(mount, str(mount / "common"))
    for answers in told:
        assert answers["stat"] == "4"
        assert answers["list"] == "['file', 'link']"
        assert answers["inner"] == "ENOENT"
    assert odd == []
    assert call_as(WARM, look, str(mount / "common"))["list"] == "['file', 'inner', 'link']"
    before = mount.fuse_counters()
    assert call_as(COLD, lambda: [os.stat(mount / "common/file").st_size for _ in range(50)]) == [4] * 50
    after = mount.fuse_counters()
    assert sum(after.get(name, 0) - before.get(name, 0) for name in ("LOOKUP", "GETATTR")) < 10


def test_it_is_found_where_the_analysis_says_that_nobody_differs(without, furnished: Path) -> None:
    mount = without("nobody-differs", PARTLY, furnished)
    told, _ = beside(mount, str(mount / "common"))
    assert any(answers["inner"] == "True" for answers in told)


def reloaded(mount: Mount, closed: str = CLOSED, warm: Callable[[], object] = lambda: None) -> dict[str, str]:
    """What an app that has everything in the kernel's caches is told right after a policy closes it. warm:
    called once the app has asked five times."""

    def ask(channel) -> dict[str, str]:
        for _ in range(5):
            look(str(mount / "common"))
        channel.send("warm")
        channel.recv()
        return look(str(mount / "common"))

    child = start_as(WARM, ask)
    child.receive()
    warm()
    mount.policy.write_text(closed)
    assert mount.reload().returncode == 0
    child.send("look")
    return child.result()


def _asks_on(channel, path: str) -> str:
    """Look a name up until the answer changes; then open it as a path, for which the kernel asks nobody."""
    os.stat(path)
    channel.send("known")
    while not error(os.stat, path).startswith("ENOENT"):
        pass
    return error(os.open, path, os.O_PATH)


def _lists(channel, directory: str) -> str:
    """List one's working directory; then open a name in it as a path, for which the kernel asks nobody."""
    os.chdir(directory)
    channel.send("known")
    os.listdir()
    until = time.monotonic() + 1
    while (said := error(os.open, LATE, os.O_PATH)).isdigit() and time.monotonic() < until:
        os.close(int(said))
    return said


def answered_late(mounts: Mounts, furnished: Path, stops: str, *more: str) -> str:
    """What is left of a name that a reload hides, if the old answer to a LOOKUP arrives after it, or the old
    listing with it.

    The LOOKUP is about a name in use. Others may use the name, and the kernel forgets it, meanwhile.
    """
    late = furnished / "common" / os.fsdecode(LATE)
    late.write_bytes(b"text")
    late.chmod(0o666)
    fifos = [furnished.parent / name for name in ("says", "hears")]
    for fifo in fifos:
        os.mkfifo(fifo)
    says, hears = (os.open(fifo, os.O_RDWR | os.O_NONBLOCK) for fifo in fifos)
    # Where a name may be hidden by its owner, a change of attributes makes the kernel look names up again.
    owned = HEAD + '  - {id: owned, deny: [see], paths: "/common/*.owned", when: {owner: cold}}\n'
    mount = mounts.prepare(owned, furnished, "--app", "warm")
    mount.program = ("tests.attack.weakened", ",".join([stops, *more]))
    mount.environment[STOPS] = ":".join(map(str, fifos))
    mount.start()
    place = mount / "common" / late.name
    lists = stops == "stops-with-old-listings"
    child = start_as(WARM, _lists, str(place.parent)) if lists else start_as(WARM, _asks_on, str(place))
    try:
        assert child.receive() == "known"
        if not lists:
            late.chmod(0o644)  # the watch makes the kernel look the name up again
        wait_for(lambda: select.select([says], [], [], 0)[0], "an answer of the old policy")
        mount.policy.write_text(CLOSED.replace("/common/***", f"/common/{late.name}"))
        assert mount.reload().returncode == 0
        os.write(hears, b"." * 100)
        return child.result()
    finally:
        os.write(hears, b"." * 100)
        child.kill()
        os.close(says)
        os.close(hears)


def test_an_answer_of_the_old_policy_brings_no_name_back(mounts: Mounts, furnished: Path) -> None:
    """Attack B4.6: Bring back a name that a reload hid, by an answer of the old policy that the kernel uses
    late
    Guard: policyfs/fs/kernel_cache/name_expiry.py::StayingNames.stays
    Also: tests/unit/test_fs_kernel_cache_name_expiry.py
    Without: ::test_it_does_where_the_kernel_forgets_no_name
    """
    assert answered_late(mounts, furnished, "stops-with-old-answers") == "ENOENT"


def test_it_does_where_the_kernel_forgets_no_name(mounts: Mounts, furnished: Path) -> None:
    assert answered_late(mounts, furnished, "stops-with-old-answers", "all-names-stay").isdigit()


BY_EPOCH: Final = ("stops-with-old-listings", "reload-by-epoch")


def test_a_listing_of_the_old_policy_brings_no_name_back(mounts: Mounts, furnished: Path) -> None:
    """Where all names are forgotten at once: the kernel gives names of a listing the epoch of its arrival.

    Attack B4.7: The same by a listing that arrives after the reload, on a mount that drops all names at
    once
    Guard: policyfs/fs/kernel_cache/name_expiry.py::NameExpiry.expire_at_once,
    policyfs/fs/kernel_cache/name_expiry.py::ListedNames.add
    Without: ::test_it_does_where_the_kernel_forgets_names_in_use_only
    """
    assert answered_late(mounts, furnished, *BY_EPOCH) == "ENOENT"


def test_it_does_where_the_kernel_forgets_names_in_use_only(mounts: Mounts, furnished: Path) -> None:
    assert answered_late(mounts, furnished, *BY_EPOCH, "listed-names-stay").isdigit()


def listed_after(mount: Mount) -> list[str]:
    """What is listed right after a reload that hides a name in a directory whose listing the kernel keeps."""
    place = str(mount / "common")

    def lists(channel) -> list[str]:
        os.chdir(place)  # so that the kernel keeps the directory
        assert [sorted(os.listdir()) for _ in range(3)] == [["file", "inner", "link"]] * 3
        channel.send("listed")
        channel.recv()
        return sorted(os.listdir())

    child = start_as(WARM, lists)
    child.receive()
    mount.policy.write_text(CLOSED.replace("/common/***", "/common/inner/***"))
    assert mount.reload().returncode == 0
    child.send("again")
    return child.result()


def test_a_listing_of_the_old_policy_is_not_used_again(without, furnished: Path) -> None:
    """Also while the kernel is late in dropping it: it may wait for a request that somebody makes last.

    Attack B4.8: After a reload, get a directory's listing that the kernel kept, while a slow request
    prevents the kernel from dropping it
    Guard: policyfs/fs/namespace/readdir.py::DirectoryListings._cached
    Without: ::test_it_is_where_the_kernel_may_use_what_it_has
    """
    mount = without("reload-drops-late,reload-by-epoch", HEAD, furnished, "--app", "warm")
    assert listed_after(mount) == ["file", "link"]


def test_it_is_where_the_kernel_may_use_what_it_has(without, furnished: Path) -> None:
    guards = "reload-drops-late,reload-by-epoch,old-listings-stay"
    mount = without(guards, HEAD, furnished, "--app", "warm")
    assert listed_after(mount) == ["file", "inner", "link"]


@pytest.mark.parametrize("options", [(), ("--app", "warm")], ids=["shared", "app"])
def test_no_cache_leads_round_a_new_policy(mounts: Mounts, furnished: Path, options) -> None:
    """Attack B4.11: Use the kernel's caches for access that a reload took away
    Guard: policyfs/fs/kernel_cache/name_expiry.py::NameExpiry.expire,
    policyfs/fs/kernel_cache/name_expiry.py::AbsentNames.add
    Also: tests/mount/test_reload.py::test_what_is_forbidden_now_is_gone_at_once,
    tests/mount/test_reload.py::test_negative_answers_are_forgotten_too
    Without: ::test_it_is_where_a_reload_drops_nothing
    """
    mount = mounts.start(HEAD, furnished, *options)
    assert set(reloaded(mount).values()) == {"ENOENT"}
    if not options:
        assert call_as(COLD, lambda: error(os.stat, mount / "warm/file")).startswith("os.stat_result")


def test_it_is_where_a_reload_drops_nothing(without, furnished: Path) -> None:
    mount = without("reload-drops-nothing", HEAD, furnished, "--app", "warm")
    assert reloaded(mount)["stat"] == "4"
