"""Strict readers of YAML documents other than policies: tests, accepted changes and site files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from pydantic import Field

from policyfs.policy.errors import PolicyError, PolicyErrors
from policyfs.policy.text.compose import UnreadableError, compose, decode
from policyfs.policy.text.document import API_VERSION, Strict
from policyfs.policy.text.nodes import Items, Mapping, Node, Source, data_of
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.shape import Part, Shaper, check_head
from policyfs.policy.text.values import Text, what

T = TypeVar("T", bound=Strict)
D = TypeVar("D", bound=Strict)


class Head(Strict):
    """The keys that all these documents have."""

    api_version: Text = Field(alias="apiVersion")
    kind: Text


class Companion(NamedTuple, Generic[T, D]):
    """A document as Reader.read has read it. Its items are valid only if read() has added no error."""

    source: Source
    top: Part[T]
    items: tuple[Part[D], ...]


class Reader(Generic[T, D]):
    """A reader of documents with some keys of their own (top), and one list of items (key). subject: a
    function of an item's node and number in the list that returns its name for messages."""

    def __init__(
        self, kind: str, top: type[T], item: type[D], key: str, subject: Callable[[Node, int], str]
    ) -> None:
        self._kind: Final = kind
        self._top: Final = top
        self._item: Final = item
        self._key: Final = key
        self._subject: Final = subject

    def read(self, text: SourceText, errors: list[PolicyError]) -> Companion[T, D] | None:
        """Read a file, and add all faults to *errors*. Return None if it cannot be read at all."""
        try:
            source = decode(text.name, text.text, errors)
            root = compose(source, errors)
        except UnreadableError:
            return None
        if not isinstance(root, Mapping):
            message = f"the top level must be a mapping, not {what(data_of(root))}"
            errors.append(source.error(root.span, message, f"start with: apiVersion: {API_VERSION}"))
            return None
        if not check_head(source, root, self._kind, errors):
            return None
        shaper = Shaper(source, errors)
        top = shaper.part(root, "", self._top.model_validate, self._top)
        found = root.get(self._key)
        items = found.items if isinstance(found, Items) else ()
        return Companion(
            source,
            top,
            tuple(
                shaper.part(item, self._subject(item, number), self._item.model_validate, self._item)
                for number, item in enumerate(items, 1)
            ),
        )


def sound(errors: list[PolicyError], headline: str) -> None:
    """Raise PolicyErrors if the list has errors. headline: the first line of the message."""
    if errors:
        raise PolicyErrors(errors, headline)
