"""Lines for other programs: each has an id, holes too."""

from __future__ import annotations

from policyfs.follow.lines import fields_of_hole, with_id
from policyfs.trail.chain.continuity import Hole


def test_the_id_of_a_file_gives_way_to_the_id_of_the_record() -> None:
    assert with_id("a:7", {"type": "quarantine", "id": "3"}) == {
        "id": "a:7", "type": "quarantine", "file_id": "3",
    }  # fmt: skip


def test_a_hole_names_its_records_without_escape_sequences() -> None:
    assert fields_of_hole("a\x1b[0m", Hole(3, 5, "\nmissing")) == {
        "type": "hole", "chain": "a\\x1b[0m", "first": 3, "last": 5, "why": "\\x0amissing",
    }  # fmt: skip
