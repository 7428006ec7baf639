"""Classes of files by what conditions ask."""

from __future__ import annotations

from policyfs.domain import Facts, FileType
from policyfs.policy.analysis.files import FileClasses
from tests.support.models.policies import Asked


def classes(*rules: str) -> FileClasses:
    asked = Asked("\n".join(f"- {{id: r{n}, allow: [see], {rule}}}" for n, rule in enumerate(rules)))
    engine = asked.engine
    return FileClasses(engine.profile(asked.who("camera"), engine.state_of(b"/a")).lives)


def test_without_conditions_there_is_one():
    files = classes("paths: /a")
    assert files.one
    assert len(files.samples(FileType.REGULAR)) == 1
    assert files.spelled(Facts("image/jpeg", "none"), ["maps"]) == Facts()


def test_kinds_that_no_condition_tells_apart_are_one():
    files = classes("when: {type: [image/jpeg, image/png, image/heic]}", "when: {type: image/*}")
    kinds = [facts.kind for facts in files.samples(FileType.REGULAR)]
    assert kinds[:2] == ["image/jpeg", "video/mp4"]
    assert None in kinds
    assert len(kinds) == 4  # one of the three, another image, anything else, an unknown one
    assert [facts.kind for facts in files.samples(FileType.DIRECTORY)] == ["inode/directory"]


def test_owners_and_their_names():
    files = classes("when: {owner: [self, maps]}")
    owners = {facts.owner for facts in files.samples(FileType.REGULAR)}
    assert owners == {"none", "camera", None}
    assert files.samples(FileType.REGULAR, unknown=False)[0].owner == "none"


def test_made_up_facts_are_spelled_as_real_ones_of_their_class():
    files = classes("when: {type: image/*, owner: none}")
    assert files.spelled(Facts("image/\0kind", "\0app"), ["maps"]) == Facts("image/x-other", "maps")
    assert files.spelled(Facts("\0kind/", "\0app"), []) == Facts("application/x-other", "former-app")
