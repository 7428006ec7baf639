"""The YAML of a compose file as plain values, by the rules of YAML 1.2, as Compose reads it.

Merge keys (``<<``), repeated keys and the tags ``!reset`` and ``!override`` are handled here, as libraries
differ in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

RESET: Final = "!reset"
OVERRIDE: Final = "!override"
MAX_BYTES: Final = 1 << 20
_MAX_NODES: Final = 20_000
_MAX_CHARACTERS: Final = 4 << 20
"""Limits of a compose file, and of what its aliases stand for together."""
_MAX_DEPTH: Final = 50
_CORE: Final = "tag:yaml.org,2002:"
_TYPES: Final = frozenset({"null", "bool", "int", "float", "str", "timestamp", "map", "seq", "merge"})
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17}|0[xo][0-9a-fA-F]{1,15})")

Documents = list[tuple[object, list[tuple[list[str | int], str]]]]


def documents(data: bytes) -> Documents:
    """Return the documents of a file: each as mappings, lists, texts, integers, booleans and None, with the
    paths of values with a tag of Compose, and these tags. Runs in the confined child. Raises ValueError."""
    try:
        nodes = [node for node in YAML(typ="safe", pure=True).compose_all(data) if node is not None]
    except MarkedYAMLError as error:  # its own text has lines of the file
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem or error.context}") from None
    plain = _Plain()
    return [(plain.value(node, ()), plain.taken()) for node in nodes]


class _Plain:
    """The conversion of nodes, which have aliases replaced, within the limits of a file."""

    def __init__(self) -> None:
        self._nodes = self._characters = 0
        self._tags: list[tuple[list[str | int], str]] = []
        self._tagged = False

    def taken(self) -> list[tuple[list[str | int], str]]:
        """Return the paths of values with a tag in the last document, and forget them."""
        found, self._tags = self._tags, []
        return found

    def value(self, node: Node, path: tuple[str | int, ...]) -> object:
        """Return a node as a plain value. Raises ValueError."""
        self._count(node, len(path))
        tag = str(node.tag)
        if tag in {RESET, OVERRIDE} and not self._tagged:
            self._tags.append((list(path), tag))
            self._tagged = True
            found = self._untagged(node, path)  # in which Compose takes no tags
            self._tagged = False
            return found
        if tag.startswith(_CORE) and tag.removeprefix(_CORE) not in _TYPES:
            raise ValueError(f"line {node.start_mark.line + 1}: Compose does not know the tag {tag}")
        return self._untagged(node, path)

    def _untagged(self, node: Node, path: tuple[str | int, ...]) -> object:
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(one, (*path, at)) for at, one in enumerate(node.value)]
        return _scalar(node)

    def _count(self, node: Node, depth: int) -> None:
        self._nodes += 1
        self._characters += len(node.value) if isinstance(node, ScalarNode) else 0
        if self._nodes > _MAX_NODES or self._characters > _MAX_CHARACTERS or depth > _MAX_DEPTH:
            raise ValueError("it is too large, or too deeply nested, also if aliases are replaced")

    def _mapping(self, node: MappingNode, path: tuple[str | int, ...]) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: list[MappingNode] = []
        for key, value in node.value:
            if key.tag == f"{_CORE}merge":
                merged += [*_sources(value)]
                continue
            if not isinstance(key, ScalarNode) or key.value in own:
                raise ValueError(f"line {key.start_mark.line + 1}: a key is repeated, or no text")
            own[key.value] = self.value(value, (*path, key.value))
        for source in merged:  # own keys count before merged ones, and earlier ones before later ones
            tags = len(self._tags)
            self._count(source, len(path))
            found = self._mapping(source, path)
            self._tags[tags:] = [one for one in self._tags[tags:] if one[0][len(path)] not in own]
            own |= {key: value for key, value in found.items() if key not in own}
        return own


def _sources(value: Node) -> Iterator[MappingNode]:
    for one in value.value if isinstance(value, SequenceNode) else [value]:
        if not isinstance(one, MappingNode):
            told = f"line {one.start_mark.line + 1}: << needs a mapping, or a list of them"
            raise ValueError(told)  # noqa: TRY004 - of the file, not of an argument
        yield one


def _scalar(node: Node) -> object:
    kind, text = str(node.tag).removeprefix(_CORE), str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    return int(text, 0) if kind == "int" and _INTEGER.fullmatch(text) else text
