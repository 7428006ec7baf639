"""`policyfs tighten` on trails of a simulated week: what it proposes, and what it never does."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from policyfs.cli.machine.running_containers import Container
from policyfs.cli.setup import tighten as command
from policyfs.cli.setup.access import Access, policy_text
from policyfs.cli.setup.access_tests import cases_text
from policyfs.policy.analysis.diff import diff
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.machine.documents import CHECKOUT
from tests.support.mount.daemons import Said, policyfs
from tests.support.mount.weeks import Asked, a_site, a_week, lists, makes, reads, record, removes, renames

TOPS = ("Films", "Music", "Photos", "Documents", "Backup")
POLICY = """\
# Who may do what. A hand-made comment.
apiVersion: policyfs/v1
kind: Policy
apps: {jellyfin: {}, immich: {}, syncthing: {}}
rules:
  # Films and music, as before.
  - id: jellyfin
    allow: [all]
    who: {app: jellyfin}
    paths: ["/Films/***", "/Music/***"]
  - {id: immich, allow: [all], who: {app: immich}, paths: "/Photos/***"}  # its own
  - id: syncthing
    allow: [all]
    who: {app: syncthing}
    paths: "/***"

# What must always hold.
invariants:
  - {id: no-strangers, never: [all], who: {app: stranger}, paths: "/**"}
"""
TESTS = """\
apiVersion: policyfs/v1
kind: PolicyTests
tests:
  # the player
  - id: jellyfin-reads
    app: jellyfin
    operation: read
    path: /Films/a
    expect: {decision: allow}
  - id: jellyfin-has-all
    app: jellyfin
    operation: [read, write, delete]
    path: [/Films/a, /Music/a]
    expect: {decision: allow}
  # the last one
  - {id: strangers, app: stranger, operation: see, path: /Films, expect: {decision: deny}}
"""
APPS = ("jellyfin", "immich", "syncthing")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TZ", "UTC")
    return tmp_path


def tighten(
    place: Path, asked: Iterable[Asked], *options: str, policy: str = POLICY, answers: str = ""
) -> Said:
    site = a_site(place, policy, APPS, TOPS)
    record(place, [policy], asked)
    return answered(site, *options, answers=answers)


def answered(site: Path, *options: str, answers: str = "") -> Said:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(answers))
        return policyfs("tighten", *options, site)


def narrower(place: Path, old: str = POLICY) -> bool:
    """True if the policy has changed, and only to allow less."""
    texts = [[SourceText("home.yaml", text)] for text in (old.encode(), (place / "home.yaml").read_bytes())]
    found = diff(*map(parse_policy, texts))
    return bool(found.blocks) and not found.wider


def refused(place: Path) -> int:
    """The number of requests on the trails that were allowed, and are not under the policy now."""
    said = policyfs("policy", "replay", place / "trail", "--policy", place / "home.yaml", "--json")
    found = json.loads(said.stdout)
    assert found["undecidable"] == {}, found
    return sum(one["requests"] for one in found["changes"])


def without_lint_comments(file: Path) -> str:
    return "".join(line for line in file.read_text().splitlines(True) if "# lint: ignore covered" not in line)


def test_a_week_of_three_services(place: Path):
    said = tighten(place, a_week(random.Random(7)), "--yes")
    assert said.returncode == 0, said
    told = re.sub(r"20\d\d-\d\d-\d\d", "2026-03-01", said.stdout.split("\nnarrower")[0])
    told = told.replace("from 2026-03-01", "from 2026-02-22")
    page = (CHECKOUT / "docs/tutorial.md").read_text("utf-8")
    assert f"```text\n{told.replace(': yes', '')}\n```" in page
    assert refused(place) == 0
    assert narrower(place)
    assert policyfs("policy", "lint", place / "home.yaml").returncode == 0


def test_comments_and_hand_made_rules_stay_and_the_old_file_is_kept(place: Path):
    tighten(place, a_week(random.Random(7), days=2), "--yes", "--days", "2")
    new = without_lint_comments(place / "home.yaml")
    before, _, rest = new.partition("  # policyfs tighten, 20")
    assert POLICY.startswith(before.rstrip())
    assert new.endswith(POLICY[POLICY.index("\n# What must") :])
    assert rest.count("- id: tighten.") == 3
    assert "changed nothing.\n  - id: tighten.jellyfin.1\n" in rest
    [kept] = place.glob("home.yaml.*")
    assert kept.read_text() == POLICY
    assert kept.stat().st_mode == (place / "home.yaml").stat().st_mode


def test_a_second_time_there_is_nothing_to_take_away(place: Path):
    tighten(place, a_week(random.Random(7), days=1), "--yes")
    said = answered(place / "home.site.yaml", "--yes")
    assert said.stdout.endswith("there is nothing to take away\n"), said


def test_only_what_was_answered_with_yes(place: Path):
    said = tighten(place, a_week(random.Random(7), days=1), answers="\nn\ny\ny\n")
    assert said.returncode == 0, said
    assert "0 wider, 1 narrower" in said.stdout
    text = (place / "home.yaml").read_text()
    assert text.count("tighten.") == 1
    assert "deny: [write, create, delete, attr]\n    who: {app: syncthing}" in text
    assert narrower(place)


@pytest.mark.parametrize("answers", ["", "n\n", "y\n", "y\ny\ny\n", "y\ny\ny\nn\n"])
def test_no_yes_at_the_end_changes_nothing(place: Path, answers: str):
    said = tighten(place, a_week(random.Random(7), days=1), answers=answers)
    assert said.returncode == 0, said
    assert "nothing is changed" in said.stdout
    assert (place / "home.yaml").read_text() == POLICY
    assert not list(place.glob("home.yaml.*"))


def test_tests_of_the_policy_stay_true(place: Path):
    (place / "home.test.yaml").write_text(TESTS)
    said = tighten(place, a_week(random.Random(7), days=1), "--yes")
    assert said.returncode == 0, said
    assert policyfs("policy", "test", place / "home.yaml").returncode == 0
    new = (place / "home.test.yaml").read_text()
    assert new.startswith(TESTS[: TESTS.index("  - id: jellyfin-has-all")])
    assert new.endswith(TESTS[TESTS.index("  # the last one") :])
    assert '"operation": ["write", "delete"]' in new
    assert '"expect": {"decision": "deny"}' in new
    [kept] = place.glob("home.test.yaml.*")
    assert kept.read_text() == TESTS


def test_tests_that_fail_already_are_not_changed(place: Path):
    (place / "home.test.yaml").write_text(TESTS.replace("decision: allow", "decision: deny", 1))
    said = tighten(place, a_week(random.Random(7), days=1), "--yes")
    assert said.returncode == 1, said
    assert "tests of the policy fail already" in said.stderr
    assert (place / "home.yaml").read_text() == POLICY


def test_a_policy_that_is_a_directory_gets_a_file(place: Path):
    site = a_site(place, POLICY, APPS, TOPS)
    record(place, [POLICY], a_week(random.Random(7), days=1))
    (place / "policy").mkdir()
    (place / "home.yaml").rename(place / "policy/home.yaml")
    site.write_text(site.read_text().replace("home.yaml", "policy"))
    assert answered(site, "--yes").returncode == 0
    assert without_lint_comments(place / "policy/home.yaml") == POLICY
    assert (place / "policy/tighten.yaml").read_text().count("- id: tighten.") == 3
    assert "nothing to take away" in answered(site, "--yes").stdout


def test_a_directory_that_another_app_moves_from_is_left(place: Path):
    """jellyfin would gain by a move from where it may not write to where it may."""
    own = [makes("jellyfin", "/Music/a"), removes("jellyfin", "/Music/b")]
    asked = [lists("jellyfin", "/Films"), *own, renames("syncthing", "/Films/new.mkv", "/Music/new.mkv")]
    who = "]\n    who: {app: syncthing}"
    closed = POLICY.replace(f"[all{who}", f"[see, write, create, delete{who}")
    said = tighten(place, asked, "--yes", policy=closed)
    assert "jellyfin" in said.stdout
    assert "take away write, create, delete, attr in /Films" not in said.stdout, said
    assert refused(place) == 0


def test_an_app_that_did_nothing_keeps_all(place: Path):
    said = tighten(place, [one for one in a_week(random.Random(7), days=1) if one.app != "jellyfin"], "--yes")
    assert "jellyfin: nothing on record, so nothing is proposed" in said.stdout
    assert "who: {app: jellyfin}\n    paths:\n" not in (place / "home.yaml").read_text()


def test_few_days_are_told(place: Path):
    said = tighten(place, a_week(random.Random(7), days=2), "--yes")
    assert "WARNING: not all of these 7 days are on record" in said.stdout
    assert "jellyfin (on 2 days)" in said.stdout


def test_a_damaged_trail_proposes_nothing(place: Path):
    site = a_site(place, POLICY, APPS, TOPS)
    record(place, [POLICY], a_week(random.Random(7), days=1))
    segment = max((place / "trail").glob("*/*.jsonl"))
    lines = segment.read_bytes().split(b"\n")
    segment.write_bytes(b"\n".join(lines[:20] + lines[21:]))
    said = answered(site, "--yes")
    assert said.returncode == 5, said
    assert "nothing is proposed, because records of these days are missing" in said.stdout
    assert (place / "home.yaml").read_text() == POLICY


def test_what_is_not_recorded_is_not_taken_away(place: Path):
    quiet = POLICY.replace("apps:", "defaults: {audit: off}\napps:")
    asked = [one for one in a_week(random.Random(7), days=1) if one.app == "jellyfin"]
    said = tighten(place, asked, "--yes", policy=quiet)
    assert "nothing to take away" in said.stdout, said


def test_bad_input(place: Path):
    site = a_site(place, POLICY, APPS, TOPS)
    assert "no trail" in answered(site).stderr
    (place / "trail").mkdir()
    assert "use its mounts for some days first" in answered(site).stderr
    assert answered(site, "--days", "0").returncode == 2
    assert answered(place / "none.yaml").returncode == 1
    record(place, [POLICY], [reads("jellyfin", "/Films/a")])
    rules = 'rules: [{id: all, allow: [all], who: {app: any}, paths: "/***"}]\n'
    flow = POLICY[: POLICY.index("rules:")] + rules
    (place / "home.yaml").write_text(flow)
    said = answered(site, "--yes")
    assert "after a dash" in said.stderr
    assert (place / "home.yaml").read_text() == flow


def test_many_directories_at_the_top_are_not_told_apart(place: Path):
    for number in range(50):
        (place / f"store/album {number}").mkdir(parents=True)
    said = tighten(place, [one for one in a_week(random.Random(7), days=1) if one.app != "jellyfin"])
    assert "album" not in said.stdout
    assert "take away" in said.stdout


def test_a_failure_leaves_the_files_as_they_were(place: Path, monkeypatch: pytest.MonkeyPatch):
    (place / "home.test.yaml").write_text(TESTS)
    real = command.replace_file

    def full(path: Path, data: bytes, *, known: bytes | None = None) -> None:
        if path.name == "home.yaml" and known is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, data, known=known)

    monkeypatch.setattr(command, "replace_file", full)
    said = tighten(place, a_week(random.Random(7), days=1), "--yes")
    assert said.returncode == 1, said
    assert "the files are as before" in said.stderr
    assert (place / "home.test.yaml").read_text() == TESTS
    assert (place / "home.yaml").read_text() == POLICY


def test_a_user_who_exchanges_the_directory_of_the_policy_gets_no_file_elsewhere(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between the question and the answer, by a link to a directory in which only root may write."""
    (mine := place / "mine").mkdir()
    (victim := place / "victim").mkdir(mode=0o755)
    site = a_site(place, POLICY, APPS, TOPS)
    site.write_text(site.read_text().replace(f"{place}/home.yaml", f"{mine}/home.yaml"))
    for path in ((place / "home.yaml").rename(mine / "home.yaml"), mine, place):
        os.chown(path, 10010, 10010)
    record(place, [POLICY], a_week(random.Random(7), days=1))

    def exchanged(question: str) -> bool:
        if question == "put this in force":
            mine.rename(place / "moved")
            mine.symlink_to(victim)
        return True

    monkeypatch.setattr(command, "_yes", exchanged)
    said = answered(site, "--yes")
    assert said.returncode == 1, said
    assert os.listdir(victim) == []
    assert (place / "moved/home.yaml").read_text() == POLICY


def test_what_init_writes(place: Path):
    """Its policy and tests: the tests stay true, lint finds nothing, and nothing that was done is refused."""
    accesses = [
        Access("jellyfin", {"/Films": True, "/Music": True}), Access("immich", {"/Photos": True}),
        Access("syncthing", {"/": True}),
        Access("paperless", {"/Documents/inbox": True, "/Documents": False}),
    ]  # fmt: skip
    text = policy_text(accesses, name="home", file="home.yaml", store="/srv", site="home.site.yaml")
    (place / "home.test.yaml").write_text(cases_text(accesses, "home.yaml"))
    site = a_site(place, text, [one.app for one in accesses], TOPS)
    record(place, [text], [*a_week(random.Random(7), days=1), lists("paperless", "/Documents")])
    said = answered(site, "--yes")
    assert said.returncode == 0, said
    assert "in /Documents/inbox, never opened or listed? (y/N): yes" in said.stdout
    assert narrower(place, text)
    assert refused(place) == 0
    for command_ in ("test", "lint"):
        told = policyfs("policy", command_, place / "home.yaml")
        assert told.returncode == 0, told


def test_what_was_refused_was_not_unused(place: Path):
    some = [one for one in a_week(random.Random(7), days=1) if one.app == "syncthing"]
    rule = '  - {id: no, deny: [read], who: {app: any}, paths: "/Backup/x/y/***"}\n'
    closed = POLICY.replace("\n# What", f"{rule}\n# What")
    asked = [reads("syncthing", f"/Backup/x/y/{n}") for n in range(3)]
    said = tighten(place, [*some, *asked], policy=closed)
    assert "attr in /Backup, refused 3 times? (y/N)" in said.stdout, said
    assert "changed 5 files in /Documents; refused 3 times" in said.stdout


def test_an_app_of_which_all_was_refused(place: Path):
    said = tighten(place, [reads("immich", "/Music/a"), *a_week(random.Random(7), days=1)[:50]])
    assert "immich: nothing allowed on record; refused once, so nothing is proposed" in said.stdout


OWN = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: {place}/store
policy: {place}/home.yaml
trail: {place}/trail
mounts:
  - {{app: immich, container: immich_server, targets: {{/data: /Photos, /library: /Music}}}}
  - {{app: syncthing, service: syncthing@anna.service, targets: {{/srv/media: /}}}}
"""


def test_nobody_loses_the_right_to_write_where_the_program_writes_by_its_nature(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    """Immich only showed photos this week, and Syncthing had nothing to do; /Music is an external library."""
    image = "ghcr.io/immich-app/immich-server:release"
    found = Container("immich_server", "docker", "", (), (), image=image)
    monkeypatch.setattr(command, "running", lambda **_: [found])
    site = a_site(place, POLICY.replace('/Photos/***"}  #', '/{Photos,Music}/***"}  #'), APPS, TOPS)
    policy = (place / "home.yaml").read_text()
    site.write_text(OWN.format(place=place))
    asked = [
        one
        for app in ("immich", "syncthing")
        for top in TOPS[1:3]
        for one in (lists(app, f"/{top}"), reads(app, f"/{top}/a"))
    ]
    record(place, [policy], asked, at="{place}/run/mounts/home/{app}/mount")
    said = answered(site, "--yes")
    assert said.returncode == 0, said
    assert re.findall("take away .*", said.stdout) == [
        "take away write, create, delete, attr in /Music? (y/N): yes"
    ]
