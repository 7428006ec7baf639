"""Lines of the trail for other programs: with an id, and with holes as lines of their own (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from policyfs.trail.chain.continuity import Hole
from policyfs.trail.lines.record import Fields
from policyfs.trail.lines.table import shown


def with_id(name: str, fields: Mapping[str, object]) -> Fields:
    """Return the fields of a record, with the record's id as ``id``. If the record has a field ``id`` already
    (the id of a file in the quarantine), it becomes ``file_id``."""
    return {"id": name, **{"file_id" if key == "id" else key: value for key, value in fields.items()}}


def fields_of_hole(chain: str, hole: Hole) -> Fields:
    """Return the fields for JSON of a hole in a hash chain. chain: the chain's name."""
    return {
        "type": "hole", "chain": shown(chain), "first": hole.first, "last": hole.last, "why": shown(hole.why),
    }  # fmt: skip
