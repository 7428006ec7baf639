"""The policy in force and the one before it: each change is on record before it counts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.daemon.end import MountEnd
from policyfs.daemon.log import configure
from policyfs.daemon.policies import policies
from policyfs.daemon.policies.policies import Loader, Policies, Sources
from policyfs.errors import PolicyfsError, UnreadableError
from policyfs.journal.files.policy_texts import kept_digests, read_pointer
from policyfs.journal.writing.journal import Journal
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.trail.lines.record import Record
from tests.support.mount.trail import MOUNT_ID, a_journal, read_all

BY = MountEnd("someone", "a test")


def text(name: str) -> Sources:
    whole = f"apiVersion: policyfs/v1\nkind: Policy\nmetadata: {{name: {name}}}\nrules: []\n"
    return [SourceText("p.yaml", whole.encode())]


class Changing:
    """A policy file that changes, and the policies of a mount by it."""

    def __init__(self, root: Path, journal: Journal, name: str = "one") -> None:
        self.sources = text(name)
        self.directory = root / MOUNT_ID
        loader = Loader(lambda: self.sources, parse_policy, compile_policy)
        self.log = io.StringIO()
        self.policies = Policies(loader, root, configure(self.log, as_json=True))
        self.policies.begin(journal, self.directory, {"store": "/store"})

    def change(self, name: str, *, previous: bool = False) -> None:
        self.sources = text(name)
        sources = self.policies.read(previous=previous)
        self.replace(self.policies.compile(parse_policy(sources)), sources)

    def replace(self, engine: Engine, sources: Sources, generation: int = 2) -> None:
        written: list[bool] = []
        self.policies.replace(engine, sources, BY, generation, lambda: written.append(True))
        assert written == []
        self.policies.flush()
        assert written == [True]

    def refuse(self, sources: Sources | None, reason: str) -> None:
        self.policies.refuse(sources, BY, reason)
        self.policies.flush()

    @property
    def digest(self) -> str:
        return self.policies.engine.digest

    def records(self, kind: str) -> list[Record]:
        return [record for record in read_all(self.directory) if record.kind == kind]


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Changing]:
    with a_journal(tmp_path) as journal:
        made = Changing(tmp_path, journal)
        yield made
        made.policies.close()


def test_the_start_is_on_record_with_the_policy_and_its_text(changing: Changing) -> None:
    (record,) = changing.records("mount")
    assert record.fields["policy"] == changing.digest
    assert (record.fields["name"], record.fields["store"]) == ("one", "/store")
    assert kept_digests(changing.directory) == [changing.digest]
    assert changing.policies.previous == ""


def test_after_a_change_the_one_before_can_be_put_in_force_again(changing: Changing) -> None:
    first = changing.digest
    changing.change("two")
    second = changing.digest
    assert (changing.policies.previous, first != second) == (first, True)
    assert read_pointer(changing.directory) == (second, first)
    changing.change("ignored", previous=True)
    assert (changing.digest, changing.policies.previous) == (first, second)
    assert changing.policies.engine.policy.name == "one"
    fields = [record.fields for record in changing.records("policy")]
    assert [(f["result"], f["policy"], f["previous"]) for f in fields] == [
        ("in force", second, first), ("in force", first, second)
    ]  # fmt: skip


def test_the_same_policy_again_keeps_the_one_before(changing: Changing) -> None:
    first = changing.digest
    changing.change("two")
    changing.change("two")
    assert changing.policies.previous == first
    assert changing.records("policy")[-1].fields["previous"] == changing.digest


def test_there_may_be_none_before(changing: Changing) -> None:
    with pytest.raises(PolicyfsError, match="no earlier policy"):
        changing.policies.read(previous=True)


@pytest.mark.parametrize("harm", ["change", "add", "remove"])
def test_a_text_that_was_changed_is_not_put_in_force(changing: Changing, harm: str) -> None:
    first = changing.digest
    changing.change("two")
    kept = changing.directory / "policies" / first / "p.yaml"
    if harm == "change":
        kept.write_bytes(kept.read_bytes() + b"# x\n")
    elif harm == "add":
        kept.with_name("more.yaml").write_bytes(text("more")[0].text)
    else:
        kept.unlink()
        kept.parent.rmdir()
    with pytest.raises(PolicyfsError, match=r"was changed|cannot be read"):
        changing.policies.read(previous=True)


def test_a_refused_policy_is_on_record_with_its_text_and_changes_nothing(changing: Changing) -> None:
    before = changing.digest
    bad = [SourceText("p.yaml", b"no policy")]
    changing.refuse(bad, "no policy")
    changing.refuse(None, "no file")
    one, other = (record.fields for record in changing.records("policy"))
    assert (one["result"], one["policy"], one["reason"]) == ("refused", before, "no policy")
    assert one["refused"] in kept_digests(changing.directory)
    assert "refused" not in other
    assert (changing.digest, changing.policies.previous) == (before, "")


def test_a_change_that_cannot_be_recorded_changes_nothing(changing: Changing, monkeypatch) -> None:
    """The engine in force stays the old one, so its exceptions must end at their times."""
    changing.change("two")
    before, ends = changing.digest, changing.policies.next_end
    sources = text("three")
    engine = changing.policies.compile(parse_policy(sources))

    def fails(*_arguments: object, **_more: object) -> None:
        raise OverflowError("date value out of range")

    with monkeypatch.context() as broken:
        broken.setattr(policies, "_exceptions", fails)
        with pytest.raises(OverflowError):
            changing.replace(engine, sources, 3)
    with monkeypatch.context() as broken:
        broken.setattr(changing.policies._journal, "announce", fails)
        with pytest.raises(OverflowError):
            changing.replace(engine, sources, 3)
    assert (changing.digest, changing.policies.next_end) == (before, ends)
    assert changing.policies.previous != before
    changing.refuse(None, "no file")
    assert changing.records("policy")[-1].fields["policy"] == before


def test_a_refusal_of_the_text_in_force_keeps_the_policy_before(changing: Changing) -> None:
    """`policy apply` is refused if the files changed after its check, also if they changed back."""
    first = changing.digest
    changing.change("two")
    changing.refuse(changing.sources, "the policy's files were changed after the check")
    assert read_pointer(changing.directory) == (changing.digest, first)


def test_a_new_daemon_knows_the_policy_before(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        old = Changing(tmp_path, journal)
        first = old.digest
        old.change("two")
        second = old.digest
        old.policies.close()
    for name, previous in (("two", first), ("three", second)):
        with a_journal(tmp_path) as journal:
            new = Changing(tmp_path, journal, name)
            assert new.policies.previous == previous
            new.policies.close()


def test_a_text_is_new_until_it_is_in_force(changing: Changing) -> None:
    assert not changing.policies.has_new_text()
    changing.sources = text("two")
    assert changing.policies.has_new_text()
    changing.change("two")
    assert not changing.policies.has_new_text()


def test_files_that_cannot_be_read_are_no_new_text(tmp_path: Path) -> None:
    """A watch looks at them again and again: a refusal on record for each look would fill the trail."""
    fails: list[UnreadableError] = []

    def read() -> Sources:
        for error in fails:
            raise error
        return text("one")

    loader = Loader(read, parse_policy, compile_policy)
    made = Policies(loader, tmp_path, configure(io.StringIO(), as_json=True))
    fails.append(UnreadableError("stale file handle"))
    with pytest.raises(UnreadableError):
        made.has_new_text()
    made.close()


def test_an_older_policy_is_in_force_and_the_log_names_what_is_redacted_now(changing: Changing) -> None:
    rules = "[{id: old, require: {redact: location}, raw_types: [application/x-subrip, text/csv]}]"
    older = text("old")[0].text.replace(b"[]", rules.encode())
    engine = changing.policies.compile(parse_policy([SourceText("p.yaml", older)]))
    assert engine.policy.rules[0].raw_types == {"text/csv"}
    told = json.loads(changing.log.getvalue().splitlines()[-1])
    assert (told["event"], told["rule"]) == (policies.OVERRIDDEN, "old")
    assert told["kinds"] == ["application/x-subrip"]
