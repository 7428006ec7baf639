"""F1: a worker that was taken over shows no app another one's bytes, neither at once nor later."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

import pytest

from tests.attack.parsers_lying import LIES, NEW, SECRET, SECRET_BYTES, VICTIM, marked
from tests.attack.test_remembered import aged
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, wait_for
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

ONE, OTHER = 10011, 10012
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {ONE}, gid: {ONE}}}
  other: {{uid: {OTHER}, gid: {OTHER}}}
rules:
  - {{id: own, allow: [see, read], who: {{app: one}}, paths: "/one/***"}}
  - {{id: read, allow: [see, read], who: {{app: any}}, paths: ["/*", "/lies/***"]}}
  - {{id: no-location, require: {{redact: location}}, paths: "/**"}}
"""


OF_UIDS: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  both: {{uid: [{ONE}, {OTHER}]}}
rules:
  - {{id: own, allow: [see, read], who: {{uid: {ONE}}}, paths: "/one/***"}}
  - {{id: read, allow: [see, read], who: {{app: any}}, paths: ["/*"]}}
  - {{id: no-location, require: {{redact: location}}, paths: "/**"}}
"""


def photo(words: bytes) -> bytes:
    """A photo with a place, and a comment."""
    return jpegs.with_segments(
        jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()), jpegs.segment(jpegs.COM, words)
    )


def furnish(store: Path) -> None:
    """A file of the one app's, and one that both may read."""
    (store / "one").mkdir()
    (store / "one/secret.jpg").write_bytes(photo(SECRET.ljust(SECRET_BYTES, b"s")))
    (store / "shared.jpg").write_bytes(photo(VICTIM.ljust(SECRET_BYTES, b".")))
    aged(store / "one/secret.jpg", store / "shared.jpg")


def on_disk(mount: Mount) -> bytes:
    """All that is remembered of files."""
    with contextlib.closing(sqlite3.connect(mount.trail / "found.sqlite")) as database:
        return b"".join(bytes(row[0]) for row in database.execute("SELECT answer FROM found"))


@pytest.mark.parametrize(
    ("guards", "leaks"),
    [
        pytest.param("lying-parser", False, id="guarded"),
        pytest.param("lying-parser,one-worker-for-all", True, id="one worker for all"),
        pytest.param("lying-parser,copies-for-all", True, id="copies for all"),
        pytest.param("lying-parser,findings-for-all", True, id="findings for all"),
    ],
)
def test_what_a_worker_saw_of_one_app_is_not_shown_to_another(
    guards: str, leaks: bool, mounts_on, without, store_on
) -> None:
    """Attack F1.1: Take over a worker by a file, and have it put one app's bytes into another app's
    redacted file
    Guard: policyfs/content/workers/pool.py::Pool.take

    Attack F1.3: The same by remembered results: for other apps, for other mounts, and after a restart
    Guard: policyfs/fs/redacted/results.py::CopyKey.of,
    policyfs/content/disk_cache.py::Remembered.plan, policyfs/fs/access/views.py::Views.whose
    """
    store = store_on("ext4")
    furnish(store)
    mount = without(guards, POLICY, store)
    shared = mount / "shared.jpg"
    call_as(ONE, (mount / "one/secret.jpg").read_bytes)
    # The worker puts what it has seen into the next file: its own app is shown that, and it alone.
    assert SECRET in call_as(ONE, shared.read_bytes)
    seen = call_as(OTHER, shared.read_bytes)
    assert (SECRET in seen) is leaks
    if leaks:
        return
    assert jpegs.leaks(seen) == []
    assert mount.status()["bugs"] == 0
    mount.expected_log.append("lied")
    mount.stop()
    assert SECRET in on_disk(mount), "the lie is remembered, for the app of the liar"
    honest = mounts_on.start(POLICY, store)
    assert call_as(OTHER, (honest / "shared.jpg").read_bytes) == seen
    assert honest.status()["sniffer"]["requests"] == 0


@pytest.mark.parametrize("leaks", [False, True], ids=["guarded", "by names"])
def test_what_a_worker_saw_of_an_app_is_not_shown_to_its_namesake_in_another_policy(
    leaks: bool, without, store_on
) -> None:
    """Two policies of one machine can call different users' programs alike.

    Attack F1.4: The same by remembered results, for an app of the same name, but with other uids, in
    another policy
    Guard: policyfs/daemon/daemon.py::Daemon._identify
    """
    store = store_on("ext4")
    furnish(store)
    guards = "lying-parser,apps-by-name" if leaks else "lying-parser"
    mount = without(guards, POLICY, store)
    call_as(ONE, (mount / "one/secret.jpg").read_bytes)
    assert SECRET in call_as(ONE, (mount / "shared.jpg").read_bytes)
    wait_for(lambda: SECRET in on_disk(mount), "the lie to be remembered")
    namesake = POLICY.replace(f"  one: {{uid: {ONE}, gid: {ONE}}}\n", "").replace("  other:", "  one:")
    there = without(guards, namesake, store)
    assert (SECRET in call_as(OTHER, (there / "shared.jpg").read_bytes)) is leaks


@pytest.mark.parametrize(
    ("guards", "leaks"),
    [("lying-parser", False), ("lying-parser,uids-share-lanes", True)],
    ids=["guarded", "alike"],
)
@pytest.mark.parametrize(
    "options", first(1, [((),), (("--app", "both", "--any-uid"),)]), ids=["shared", "app mount"]
)
def test_what_a_worker_saw_of_one_uid_is_not_shown_to_another_that_rules_tell_apart(
    guards: str, leaks: bool, options: tuple[str, ...], without, store_on
) -> None:
    """Attack F1.2: The same by one uid of an app, with the bytes of another uid of this app, if the policy
    treats the uids differently
    Guard: policyfs/domain.py::Principal.lane
    """
    store = store_on("ext4")
    furnish(store)
    mount = without(guards, OF_UIDS, store, *options)
    assert call_as(OTHER, error, Path.read_bytes, mount / "one/secret.jpg") == "ENOENT"
    call_as(ONE, (mount / "one/secret.jpg").read_bytes)
    assert (SECRET in call_as(OTHER, (mount / "shared.jpg").read_bytes)) is leaks
    mount.expected_log.append("lied")


BY_KIND: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {ONE}, gid: {ONE}}}
  other: {{uid: {OTHER}, gid: {OTHER}}}
rules:
  - {{id: read, allow: [see, read], paths: "/***"}}
  - {{id: own, deny: see, who: {{app: other}}, paths: "/one"}}
  - {{id: no-text, deny: see, paths: ["/one/*", "/names/*", "/listed/*"], when: {{type: text/*}}}}
"""


@pytest.mark.parametrize(
    ("guards", "leaks"), [("lying-parser", False), ("lying-parser,kinds-for-all-names", True)],
    ids=["guarded", "kept for all"],
)  # fmt: skip
@pytest.mark.parametrize("options", first(1, [((),), (("--posix",),)]), ids=["shared", "posix"])
def test_the_kind_that_an_app_s_worker_finds_shows_another_no_name(
    guards: str, leaks: bool, options: tuple[str, ...], without, store_on
) -> None:
    """Neither a name nor a listing that the kernel keeps.

    Attack F1.5: Have the worker find a kind that shows a hidden name to its own app, and through the
    kernel's caches to others
    Guard: policyfs/policy/rules/distinctions.py::Distinctions.sight,
    policyfs/policy/rules/scope.py::Scope.caller_matters
    """
    store = store_on("ext4")
    furnish(store)
    for name in ("names", "listed"):
        (store / name).mkdir()
        (store / name / "text").write_bytes(b"only a text\n" * 20 + VICTIM)
        aged(store / name / "text")
    for path in (store, *store.rglob("*")):
        path.chmod(0o755)  # with --posix modes count
    mount = without(guards, BY_KIND, store, *options)
    call_as(ONE, (mount / "one/secret.jpg").read_bytes)
    assert call_as(ONE, error, os.stat, mount / "names/text") != "ENOENT"
    assert (call_as(OTHER, error, os.stat, mount / "names/text") != "ENOENT") is leaks
    assert call_as(ONE, os.listdir, mount / "listed") == ["text"]
    assert (call_as(OTHER, os.listdir, mount / "listed") == ["text"]) is leaks


def test_whatever_a_worker_says_harms_its_own_file_alone(without, store_on) -> None:
    """Attack F1.7: Have the worker lie in every field of an answer, answer endlessly, or never answer
    Guard: policyfs/content/plans.py::unpack_plan, policyfs/content/workers/connection.py::WorkerLink.ask
    Also: tests/unit/test_content_plans.py, tests/unit/test_content_workers_connection.py
    Without: ::test_nonsense_shows_the_place_where_a_failure_means_that_there_is_nothing
    """
    store = store_on("ext4")
    furnish(store)
    (store / "lies").mkdir()
    for word in LIES:
        (store / "lies" / word).write_bytes(photo(marked(word)).ljust(10_000, b"."))
        (store / f"{word}.jpg").write_bytes(photo(word.encode()))
    mount = without("lying-parser", POLICY, store)
    for word in LIES:
        assert call_as(ONE, error, Path.read_bytes, mount / "lies" / word) == "EACCES", word
        shown = call_as(OTHER, (mount / f"{word}.jpg").read_bytes)
        assert jpegs.leaks(shown) == [], word
        assert shown != (store / f"{word}.jpg").read_bytes(), word
        assert call_as(ONE, (mount / f"{word}.jpg").read_bytes) == shown
    assert mount.status()["bugs"] == 0
    # A worker that is just forked counts for a moment.
    wait_for(lambda: mount.status()["sniffer"]["in_flight"] == 0, "no worker is asked anything")
    mount.expected_log.append("lied")


def test_new_bytes_are_shown_where_nobody_counts_them(without, store_on) -> None:
    store = store_on("ext4")
    (store / "lies").mkdir()
    (store / "lies/new").write_bytes(photo(marked("new bytes")).ljust(10_000, b"."))
    mount = without("lying-parser,uncounted-bytes", POLICY, store)
    assert NEW in call_as(ONE, (mount / "lies/new").read_bytes)


def test_nonsense_shows_the_place_where_a_failure_means_that_there_is_nothing(without, store_on) -> None:
    store = store_on("ext4")
    (store / "lies").mkdir()
    (store / "lies/nonsense").write_bytes(photo(marked("patch outside")))
    mount = without("lying-parser,failure-is-clean", POLICY, store)
    assert jpegs.leaks(call_as(ONE, (mount / "lies/nonsense").read_bytes))
