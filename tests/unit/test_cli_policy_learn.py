"""policy learn, as a command, with golden outputs in policy_proposals/.

POLICYFS_UPDATE_GOLDEN=1 writes them anew (and fails, so that they are read).
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

from policyfs.trail.lines.event import Event
from tests.support.mount.daemons import policyfs
from tests.support.mount.recorded import write_recorded
from tests.unit.test_cli_policy_replay import EVENTS, by_camera, denied, opened
from tests.unit.test_cli_policy_replay import HOME as REPLAYED

GOLDEN = Path(__file__).parent / "policy_proposals"
HOME = REPLAYED + """\
  - {id: data, allow: [see, read], who: {app: gallery}, paths: "/Android/data/*/***"}
  - {id: empty, allow: [see], who: {app: camera}, paths: /Empty}
  - {id: changed, allow: [see, attr], who: {app: camera}, paths: /DCIM/old.jpg}
"""
OF_DATA = {"kind": None, "rules": ("data", "no-place")}
USED = [
    *EVENTS,
    *(opened(f"/DCIM/{year}/{number}.jpg") for year in range(3) for number in range(4)),
    *(by_camera("create", "open(O_WRONLY|O_CREAT)", f"/DCIM/new{number}.jpg") for number in range(4)),
    by_camera("attr", "utimens", "/DCIM/new1.jpg"),
    by_camera("attr", "chmod", "/DCIM/old.jpg", rules=("changed",)),
    by_camera("list", "opendir", "/Empty", rules=("empty",)),
    opened("/Android/data/gallery/x/y.db", **OF_DATA),
    opened("/Android/data/maps/x/y.db", **OF_DATA),
    opened("/DCIM/scan.dwg", "maps", 10012, kind="image/vnd.dwg", rules=("sees",), view="raw"),
    opened("/DCIM/a.jpg", "stranger", 4711),
    denied("/DCIM/2/9.jpg", errno=13, rules=("trial",)),
]
TRAILS: dict[str, list[Event]] = {
    "home": USED,
    "one-app": [event for event in USED if event.app == "gallery"],
    "nothing": [event for event in USED if event.operation in {"unlink", "rename"}],
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TRAILS)
def test_exact_words(place: Path, name: str):
    write_recorded(place / "trail", HOME, TRAILS[name])
    said = policyfs("policy", "learn", "trail")
    told = f"{said.stdout}{said.stderr}exit code {said.returncode}\n"
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        expected.write_text(told, "utf-8")
        pytest.fail(f"{expected} was written: read it, then run without updating")
    assert told == expected.read_text("utf-8")


def test_a_proposal_is_sound_and_means_what_it_says(place: Path):
    write_recorded(place / "trail", HOME, USED)
    (place / "new.yaml").write_text(policyfs("policy", "learn", "trail").stdout)
    assert policyfs("policy", "check", "new.yaml").returncode == 0
    assert policyfs("policy", "lint", "new.yaml").returncode == 0
    report = json.loads(policyfs("policy", "replay", "trail", "--policy", "new.yaml", "--json").stdout)
    refused = {example["path"] for change in report["changes"] if change["after"].startswith("E")
               for example in change["examples"]}  # fmt: skip
    assert refused <= {
        "/DCIM/private/c.jpg", "/Android/data/maps/x/y.db", "/DCIM/old.jpg", "/DCIM/.d.part",
        "/DCIM/scan.dwg", "/DCIM/a.jpg", "/DCIM/x.jpg",
    }  # fmt: skip


def test_a_proposal_that_is_too_hard_to_compare_says_so(place: Path):
    dear = [f"/*{'*'.join(order)}*" for order in list(itertools.permutations("abcde"))[:100]]
    hard = HOME + f"  - {{id: hard, allow: [see], who: {{app: maps}}, paths: {json.dumps(dear)}}}\n"
    write_recorded(place / "trail", hard, USED)
    said = policyfs("policy", "learn", "trail")
    assert said.stdout.startswith("# WARNING: the proposal is not compared with the policy in force"), said
    assert "policyfs: WARNING: the proposal is not compared" in said.stderr


def test_names_that_no_glob_can_have_stop_no_proposal(place: Path):
    """An app can ask for them."""
    long = f"/DCIM/1/{'a' * 300}.jpg"
    asked = [denied(long, errno=13), denied(long, errno=13, rules=("trial",)), opened(long)]
    write_recorded(place / "trail", HOME, [*USED, *asked])
    (place / "new.yaml").write_text(policyfs("policy", "learn", "trail").stdout)
    assert policyfs("policy", "check", "new.yaml").returncode == 0
    assert f"/DCIM/1/{'a' * 255}*" in (place / "new.yaml").read_text()


def test_json(place: Path):
    write_recorded(place / "trail", HOME, USED)
    found = json.loads(policyfs("policy", "learn", "trail", "--json", "--query", "app:gallery").stdout)
    assert found["used"] == sum(rule["requests"] for rule in found["rules"])
    assert {one["guard"] for one in found["kept_back"]} == {"private", "denied"}
    assert found["contradictions"] == []
    assert all(rule["ids"] and rule["app"] == "gallery" for rule in found["rules"])


def test_what_is_not_proposed_counts_as_kept_back(place: Path):
    """So many of the app's requests were refused that no rule is proposed for it, or another mount refused
    what one allowed."""
    many = [denied(f"/DCIM/{number}.jpg", errno=13, rules=("trial",)) for number in range(2_001)]
    allowed = [opened("/DCIM/1/2.jpg"), by_camera("list", "opendir", "/Empty")]
    write_recorded(place / "trail", HOME, [*allowed, *many])
    found = json.loads(policyfs("policy", "learn", "trail", "--json").stdout)
    held = [(one["guard"], one["app"], one["requests"]) for one in found["kept_back"]]
    assert ("elsewhere", "gallery", 1) in held
    assert found["used"] == 1
    assert "gallery open, once" in found["policy"]


def test_bad_input(place: Path):
    assert "there is no trail at trail" in policyfs("policy", "learn", "trail").stderr
    write_recorded(place / "trail", HOME, USED)
    assert policyfs("policy", "learn", "trail", "--query", "(").returncode == 2
    assert policyfs("policy", "learn", "trail", "--query", "app:nobody").returncode == 2
    assert policyfs("policy", "learn").returncode == 2
