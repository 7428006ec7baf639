"""policy replay, as a command, with golden outputs in policy_replays/.

POLICYFS_UPDATE_GOLDEN=1 writes them anew (and fails, so that they are read).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from policyfs.trail.lines.event import Event
from tests.support.mount.daemons import policyfs
from tests.support.mount.recorded import write_recorded
from tests.support.mount.trail import an_event

GOLDEN = Path(__file__).parent / "policy_replays"
HOME = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
  maps: {uid: 10012}
rules:
  - {id: sees, allow: [see, read], who: {app: [gallery, maps]}, paths: "/DCIM/**"}
  - {id: own, allow: [all], who: {app: camera}, paths: "/DCIM/**", when: {owner: self}}
  - {id: no-place, require: {redact: [location]}, who: {app: gallery}}
  - {id: trial, deny: [read], who: {app: maps}, paths: "/DCIM/private/**", mode: monitor}
"""


def opened(path: str, app: str = "gallery", uid: int = 10011, **fields: object) -> Event:
    made = {"rules": ("no-place", "sees"), "view": "redacted(location)", "kind": "image/jpeg", **fields}
    return an_event(path.encode(), app=app, uid=uid, **made)


def by_camera(operation: str, syscall: str, path: str, **fields: object) -> Event:
    base = {"operation": operation, "syscall": syscall, "rules": ("own",), "view": "", "io": ""}
    return an_event(path.encode(), app="camera", uid=10010, **{**base, **fields})


def denied(path: str, **fields: object) -> Event:
    base = {"decision": "deny", "errno": 2, "rules": (), "view": "", "kind": None, "io": ""}
    return opened(path, **{**base, **fields})


EVENTS = [
    opened("/DCIM/a.jpg"),
    opened("/DCIM/b.jpg"),
    opened("/DCIM/b.jpg"),
    opened("/DCIM/private/c.jpg", "maps", 10012, rules=("sees",), view="raw", decision="would_deny",
           would_deny=("trial",), kind=None),
    by_camera("create", "open(O_WRONLY|O_CREAT|O_EXCL)", "/DCIM/.d.part", view="raw"),
    by_camera("rename", "rename", "/DCIM/.d.part", new_path=b"/DCIM/d.jpg"),
    by_camera("unlink", "unlink", "/DCIM/old.jpg", size_before=4),
    by_camera("release", "close", "/DCIM/.d.part", rules=()),
    denied("/Private/a", operation="lookup", syscall="lookup"),
    denied("/Private/a", operation="lookup", syscall="lookup", repeats=4, since_ns=1),
    denied("/DCIM/x.jpg", errno=13, operation="unlink", syscall="unlink", rules=("no-place",)),
    denied("/", folded="app", repeats=7, since_ns=1, operation="lookup", syscall="lookup"),
    denied("/DCIM/busy.jpg", errno=16, note="a writer has it open"),
    by_camera("open", "openat2(strange)", "/DCIM/e.jpg"),
]  # fmt: skip
NEWS = {
    "same": HOME,
    "wider": HOME + '  - {id: more, allow: [see, read], paths: "/Private/**"}\n',
    "enforced": HOME.replace(", mode: monitor", ""),
    "owners": HOME + '  - {id: kept, deny: [delete], paths: "/DCIM/**", when: {owner: none}}\n'
    '  - {id: pictures, deny: [delete, create], paths: "/DCIM/*.jpg", unless: {type: image/jpeg}}\n',
    "redacted": HOME.replace("who: {app: gallery}}", "who: {app: any}}"),
    "gone": HOME.replace("  gallery: {uid: 10011}\n", "").replace("[gallery, maps]", "maps")
    .replace("who: {app: gallery}}", "who: {app: maps}}"),
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, text in NEWS.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def replay(*words: object) -> str:
    said = policyfs("policy", "replay", "trail", "--policy", *words)
    return f"{said.stdout}{said.stderr}exit code {said.returncode}\n"


@pytest.mark.parametrize("name", [*NEWS, "no-text"])
def test_exact_words(place: Path, name: str):
    write_recorded(place / "trail", HOME, EVENTS, keep=name != "no-text")
    told = replay(f"{'redacted' if name == 'no-text' else name}.yaml")
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        expected.write_text(told, "utf-8")
        pytest.fail(f"{expected} was written: read it, then run without updating")
    assert told == expected.read_text("utf-8")


def test_a_policy_replayed_over_its_own_trail_changes_nothing(place: Path):
    write_recorded(place / "trail", HOME, EVENTS)
    found = json.loads(policyfs("policy", "replay", "trail", "--policy", "same.yaml", "--json").stdout)
    assert (found["wider"], found["narrower"], found["other"]) == (0, 0, 0)
    assert found["by_recorded_answer"] == 0
    assert sum(found["undecidable"].values()) == 2  # the lack of a resource, and a strange call


def test_a_query_selects(place: Path):
    write_recorded(place / "trail", HOME, EVENTS)
    words = ("policy", "replay", "trail", "--policy", "enforced.yaml", "--json")
    found = json.loads(policyfs(*words, "--query", "app:maps op:open").stdout)
    assert (found["requests"], found["narrower"]) == (1, 1)
    [change] = found["changes"]
    assert change["direction"] == "narrower"
    assert change["rules_after"] == ["trial"]
    assert change["examples"] == [{"id": "01234567:6", "path": "/DCIM/private/c.jpg"}]
    assert policyfs(*words, "--query", "app:gallery").returncode == 0
    assert policyfs(*words, "--query", "app:nobody").returncode == 2


def test_rotated_and_compressed_segments_of_several_mounts(place: Path):
    many = [opened(f"/DCIM/{number}.jpg") for number in range(3000)]
    write_recorded(place / "trail", HOME, many, segment_bytes=200_000)
    other = place / "trail" / ("f" * 16)
    write_recorded(place / "more", HOME, EVENTS)
    (place / "more/0123456789abcdef").rename(other)
    first, *_ = sorted((place / "trail/0123456789abcdef").glob("*.jsonl"))
    policyfs("audit", "verify", "--trail", "trail")
    import zstandard

    packed = zstandard.ZstdCompressor(write_content_size=True).compress(first.read_bytes())
    first.with_suffix(".jsonl.zst").write_bytes(packed)
    first.unlink()
    found = json.loads(policyfs("policy", "replay", "trail", "--policy", "same.yaml", "--json").stdout)
    assert found["unchanged"] >= 3000 + 6
    assert found["wider"] == found["narrower"] == 0


def test_an_app_mount_counts_as_its_app(place: Path):
    events = [opened("/DCIM/a.jpg", uid=4711), opened("/DCIM/b.jpg", uid=4712)]
    write_recorded(place / "trail", HOME, events, app="gallery")
    assert json.loads(policyfs("policy", "replay", "trail", "--policy", "same.yaml", "--json").stdout)[
        "unchanged"
    ] == 2
    said = policyfs("policy", "replay", "trail", "--policy", "gone.yaml")
    assert said.returncode == 1
    assert "now: no app gallery" in said.stdout


def test_bad_input(place: Path):
    said = policyfs("policy", "replay", "trail", "--policy", "same.yaml")
    assert said.returncode == 1
    assert "there is no trail at trail" in said.stderr
    write_recorded(place / "trail", HOME, EVENTS)
    (place / "bad.yaml").write_text(HOME.replace("allow:", "alow:"))
    assert policyfs("policy", "replay", "trail", "--policy", "bad.yaml").returncode == 3
    assert policyfs("policy", "replay", "trail", "--policy", "same.yaml", "--query", "(").returncode == 2
    assert policyfs("policy", "replay", "trail").returncode == 2
