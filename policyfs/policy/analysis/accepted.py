"""Reader of files of accepted changes, with which `policy diff --ack FILE` does not exit with 1."""

from __future__ import annotations

from typing import Final

from policyfs.policy.errors import PolicyError
from policyfs.policy.text.companions import Head, Reader, sound
from policyfs.policy.text.document import Strict
from policyfs.policy.text.nodes import Node
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.values import Text

KIND: Final = "AcceptedChanges"


class _Top(Head):
    accepted: list[object]


class _Accepted(Strict):
    change: Text
    because: Text
    by: Text = ""


ACCEPTED_MODELS: Final = ("accepted", _Accepted)
"""The key of the list in a file of accepted changes, and the pydantic model of the list's items."""


def _subject(node: Node, number: int) -> str:
    del node
    return f"accepted change number {number}"


_READER: Final = Reader(KIND, _Top, _Accepted, "accepted", _subject)


def parse_accepted(text: SourceText) -> dict[str, str]:
    """Return a dictionary from the id of each accepted change to the reason. Raise PolicyErrors."""
    errors: list[PolicyError] = []
    file = _READER.read(text, errors)
    sound(errors, "the file of accepted changes has errors")
    items = file.items if file is not None else ()
    return {part.doc.change: part.doc.because for part in items if part.doc is not None}
