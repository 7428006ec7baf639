"""What the policies under policies/ decide, in the words of docs/policy-language.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.models.asking import check, engine_of, principal, rows, shipped

POLICIES = Path(__file__).resolve().parents[2] / "policies"

# In an answer, {rule} stands for the kinds that this content rule lists.

FAMILY = """
| gallery | see / | directory | allowed, bare |
| gallery | see /DCIM | directory | allowed, bare |
| gallery | see /Movies | directory | ENOENT |
| gallery | see /Music | directory | ENOENT |
| gallery | see /Android | directory | allowed, bare |
| gallery | see /Android/data | directory | allowed, bare |
| gallery | see /Android/data/camera | directory | ENOENT |
| gallery | see /Android/data/camera/settings.txt | | ENOENT |
| gallery | create /Android/data/camera/x | new | ENOENT |
| gallery | see /Android/data/gallery | directory | allowed |
| gallery | read /Android/data/gallery/cache.db | application/vnd.sqlite3 of none | allowed |
| gallery | write /Android/data/gallery/cache.db | application/vnd.sqlite3 of gallery | allowed |
| gallery | create /Android/data/gallery/new | new | allowed |
| gallery | delete /Android/data/gallery/new | text/plain of none | allowed |
| gallery | read /DCIM/Camera/a.jpg | image/jpeg of camera | allowed, redacted: location, audit: required |
| gallery | read /DCIM/Camera/a.jpg | image/jpeg of none | allowed, redacted: location, audit: required |
| gallery | read /DCIM/Camera/a.jpg | unknown of none | allowed, redacted: location |
| gallery | read /DCIM/Camera/a.mp4 | video/mp4 of none | allowed, redacted: location |
| gallery | read /Pictures/a.jpg | image/jpeg of none | allowed, redacted: location |
| gallery | write /DCIM/Camera/a.jpg | image/jpeg of camera | EACCES |
| gallery | create /DCIM/Camera/b.jpg | new | EACCES |
| gallery | delete /DCIM/Camera/a.jpg | image/jpeg of camera | EACCES |
| maps | read /DCIM/Camera/a.jpg | image/jpeg of camera | allowed, by library.read |
| maps | read /DCIM/Camera/a.mp4 | video/mp4 of camera | allowed |
| maps | read /Movies/film.mkv | video/x-matroska of none | ENOENT |
| maps | rename /DCIM/a.jpg to /Pictures/a.jpg | image/jpeg of none | EACCES |
| camera | create /DCIM/Camera/new.jpg | new | allowed |
| camera | create /DCIM/2024 | new directory | allowed |
| camera | write /DCIM/Camera/new.jpg | unknown of camera | allowed, checked: {library.types} |
| camera | read /DCIM/Camera/a.jpg | image/jpeg of camera | allowed |
| camera | read /DCIM/Camera/a.jpg | image/jpeg of none | allowed, redacted: location |
| camera | delete /DCIM/Camera/a.jpg | image/jpeg of camera | allowed |
| camera | delete /DCIM/Camera/a.jpg | image/jpeg of none | EACCES |
| camera | write /DCIM/Camera/a.jpg | image/jpeg of none | EACCES |
| camera | create /Pictures/a.jpg | new | EACCES |
| camera | create /a.jpg | new | ENOENT |
| camera | rename /DCIM/a.jpg to /DCIM/b.jpg | image/jpeg of camera | allowed |
| camera | rename /DCIM/a.jpg to /Pictures/a.jpg | image/jpeg of camera | EACCES |
| camera | rename /DCIM/a.jpg to /Android/data/camera/a.jpg | image/jpeg of camera | allowed |
| camera | rename /Android/data/camera/a.jpg to /DCIM/a.jpg | image/jpeg of camera | allowed |
| camera | rename /Android/data/camera/a.jpg to /DCIM/a.jpg | text/plain of camera | EPERM |
| camera | rename /Android/data/camera/a.jpg to /DCIM/a.jpg | unknown of camera | EPERM |
| camera | link /Android/data/camera/a.jpg to /DCIM/a.jpg | image/jpeg of camera | EXDEV |
| camera | rename /DCIM/2023 to /DCIM/2024 | directory of camera | EXDEV |
| gallery | rename /Android/data/gallery/d to /Android/data/gallery/e | directory of gallery | allowed |
| gallery | rename /Android/data/gallery/a to /Android/data/camera/a | text/plain of gallery | ENOENT |
| player | read /Movies/film.mkv | | allowed |
| player | read /Music/song.mp3 | | allowed, by shelf.play |
| player | see /DCIM | directory | ENOENT |
| player | write /Music/song.mp3 | | EACCES |
| gallery | read /Music/song.mp3 | audio/mpeg of none | ENOENT |
| backup | read /DCIM/Camera/a.jpg | image/jpeg of camera | allowed, by backup.all |
| backup | see /Android/data | directory | allowed |
| backup | read /Android/data/camera/settings.txt | text/plain of camera | allowed |
| backup | write /DCIM/Camera/a.jpg | image/jpeg of camera | EACCES |
| stranger | see / | directory | allowed, bare |
| stranger | see /DCIM | directory | ENOENT |
| stranger | read /DCIM/Camera/a.jpg | | ENOENT |
| stranger | read /Android/data/stranger/x | | ENOENT |
| uid 0 | read /DCIM/Camera/a.jpg | | ENOENT |
"""

ANDROID = """
| messenger | see / | directory | allowed, bare |
| messenger | see /DCIM | directory | allowed, bare |
| messenger | see /DCIM/a.jpg | image/jpeg of camera | ENOENT |
| messenger | see /Alarms | directory | ENOENT |
| messenger | create /Download/a.bin | new | allowed |
| messenger | write /Download/a.bin | application/octet-stream of messenger | allowed |
| messenger | read /Documents/a.pdf | application/pdf of messenger | allowed |
| messenger | read /Documents/a.pdf | application/pdf of camera | ENOENT |
| messenger | create /Pictures/chat.jpg | new | allowed |
| messenger | create /Pictures/chat | new directory | allowed |
| messenger | write /Pictures/chat.jpg | unknown of messenger | allowed, checked: {types.pictures} |
| messenger | write /Movies/a.mp4 | unknown of messenger | allowed, checked: {types.movies} |
| messenger | write /Music/a.mp3 | unknown of messenger | allowed, checked: {types.music} |
| messenger | create /a.jpg | new | ENOENT |
| messenger | create /Android/data/messenger | new directory | allowed |
| messenger | write /Android/data/messenger/db | | allowed |
| messenger | write /Android/media/messenger/a.jpg | | allowed |
| messenger | see /Android/data/camera | directory | ENOENT |
| messenger | see /Android/obb/camera/x | | ENOENT |
| messenger | see /Android/media/camera/x.jpg | image/jpeg of none | ENOENT |
| camera | read /DCIM/a.jpg | image/jpeg of camera | allowed |
| camera | delete /DCIM/a.jpg | image/jpeg of camera | allowed |
| camera | delete /DCIM/a.jpg | image/jpeg of messenger | ENOENT |
| camera | rename /DCIM/a.mp4 to /Movies/a.mp4 | video/mp4 of camera | allowed |
| camera | rename /DCIM/a.jpg to /Music/a.jpg | image/jpeg of camera | EPERM |
| messenger | rename /Download/a.txt to /Pictures/a.jpg | text/plain of messenger | EPERM |
| messenger | rename /Download/a.jpg to /Pictures/a.jpg | image/jpeg of messenger | allowed |
| gallery | rename /DCIM/a.mp4 to /Movies/a.mp4 | video/mp4 of camera | EACCES |
| files | rename /DCIM/a.jpg to /Documents/a.jpg | image/jpeg of camera | allowed |
| files | rename /DCIM/x to /Documents/x | directory of camera | EXDEV |
| gallery | read /DCIM/a.jpg | image/jpeg of camera | allowed, redacted: location, audit: required |
| gallery | read /Download/a.jpg | image/jpeg of messenger | allowed, redacted: location |
| gallery | read /DCIM/a.mp4 | video/mp4 of camera | allowed, redacted: location |
| gallery | read /Movies/a.mp4 | video/mp4 of none | allowed, by media.video |
| gallery | read /Music/a.mp3 | audio/mpeg of none | ENOENT |
| gallery | read /Download/a.pdf | application/pdf of none | ENOENT |
| gallery | read /DCIM/a.jpg | unknown of camera | ENOENT |
| gallery | write /DCIM/a.jpg | image/jpeg of camera | EACCES |
| gallery | read /Android/media/messenger/a.jpg | image/jpeg of none | allowed, redacted: location |
| maps | read /DCIM/a.jpg | image/jpeg of camera | allowed, by media.images |
| maps | read /DCIM/a.mp4 | video/mp4 of camera | ENOENT |
| player | read /Music/a.mp3 | audio/mpeg of none | allowed, by media.audio |
| player | read /Movies/a.mp4 | video/mp4 of none | allowed |
| player | see /DCIM/a.jpg | image/jpeg of none | ENOENT |
| files | read /Documents/a.pdf | application/pdf of camera | allowed, audit: required |
| files | delete /DCIM/a.jpg | image/jpeg of camera | allowed |
| files | create /Alarms/ring.ogg | new | allowed |
| files | write /DCIM/notes.txt | unknown of files | allowed |
| files | see /Android/data | directory | allowed |
| files | see /Android/data/camera | directory | ENOENT |
| files | write /Android/data/files/x | | allowed |
| stranger | see / | directory | allowed, bare |
| stranger | see /DCIM | directory | ENOENT |
| stranger | create /Download/a | new | ENOENT |
"""

CASES = [
    pytest.param(policy, row, id=f"{policy}-{row.app}-{row.request}-{row.file}")
    for policy, table in (("family-photos.yaml", FAMILY), ("android-scoped-storage.yaml", ANDROID))
    for row in rows(table)
]


@pytest.mark.parametrize(("policy", "row"), CASES)
def test_answer(policy, row):
    engine = shipped(policy)
    kinds = {f"{{{rule.id}}}": " ".join(sorted(rule.content)) for rule in engine.policy.rules}
    answer = re.sub(r"{.*?}", lambda match: kinds[match[0]], row.answer)
    check(engine, row._replace(answer=answer))


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_policy_and_rule_explains_itself(path):
    policy = parse_policy([SourceText(path.name, path.read_bytes())])
    assert policy.name == path.stem
    assert policy.description
    assert all(app.description for app in policy.apps)
    assert all(rule.description for rule in policy.rules)


def test_each_shipped_policy_has_a_file_of_tests():
    """tests/unit/test_cli_policy_cases.py runs them."""
    tests = {path.name.removesuffix(".test.yaml") for path in (POLICIES / "tests").iterdir()}
    assert tests == {path.stem for path in POLICIES.glob("*.yaml")}


@pytest.mark.parametrize(
    ("app", "path", "label"),
    [
        ("gallery", "/DCIM/a.jpg", "redacted(location)"),
        ("maps", "/DCIM/a.jpg", "raw"),
        ("camera", "/DCIM/a.jpg", "checked+redacted(location)"),
        ("camera", "/Pictures/a.jpg", "redacted(location)"),
        ("camera", "/Android/data/camera/a.jpg", "raw"),
        ("player", "/Movies/a.mkv", "raw"),
        ("backup", "/DCIM/a.jpg", "raw"),
    ],
)
def test_views_of_family_photos(app, path, label):
    engine = shipped("family-photos.yaml")
    assert engine.view(principal(engine, app), engine.state_of(path.encode())).label == label


def test_a_policy_with_no_rules_allows_nothing():
    engine = engine_of("apiVersion: policyfs/v1\nkind: Policy\napps: {a: {uid: 1}}\nrules: []\n")
    for row in rows("| a | see /x | | ENOENT |\n| a | see / | directory | allowed, bare |\n"):
        check(engine, row)
