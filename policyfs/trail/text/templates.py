"""Templates of exported events: of each class of events, only one is formatted as a whole (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, NamedTuple

from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import is_plain, iso_time

_DIGITS: Final = "918273645"
_MARKS: Final = [int(f"{_DIGITS}{number:03d}") for number in range(13)]
"""Numbers in place of the values that differ; an event that contains such a number itself has no template."""
_ID: Final = str(_MARKS[12])
_TIME: Final = iso_time(_MARKS[0] * 1_000_000)
_PATH, _NEW_PATH = f"/{_MARKS[1]}/{_MARKS[2]}", f"/{_MARKS[3]}/{_MARKS[4]}"
_MARK: Final = re.compile(rf"{re.escape(_TIME)}|{_PATH}|{_NEW_PATH}|{_DIGITS}\d{{3}}")
_SLOTS: Final = _TIME, str(_MARKS[0]), _PATH, str(_MARKS[2]), _NEW_PATH, *map(str, _MARKS[4:])
_SIMPLE: Final = re.compile(rb"[ !#-+\--:<-\[\]-~]*")
_SPECIAL: Final = re.compile(r'[\\",;]')
_NS: Final = 1_000_000_000


class Values(NamedTuple):
    """The values in which the events of a class differ. hidden: bytes."""

    time_ns: int
    path: bytes
    new_path: bytes | None
    pid: int
    handle: int | None
    bytes_read: int | None
    bytes_written: int | None
    size_before: int | None
    size_after: int | None
    hidden: int | None


class Templates:
    """A formatter of events, for one list of classes."""

    def __init__(self, form: Callable[[Event, str], str], *, in_json: bool = False) -> None:
        """form: formats an event; the other argument is its id. in_json: True for JSON, else CSV."""
        self._form = form
        self._in_json = in_json
        self._known: dict[tuple[int, int], tuple[str, itemgetter[Any]] | None] = {}
        self._second = (-1, "")

    def text(self, class_id: int, absent: int, event: Event, values: Values, name: str) -> str | None:
        """Return the text of an event, or None if it must be formatted as a whole. absent: another
        number for each set of values that are None. event: an event with its shared fields. name: its id."""
        path = self._plain(values.path)
        new_path = "" if values.new_path is None else self._plain(values.new_path)
        if path is None or new_path is None:
            return None
        try:
            template = self._known[class_id, absent]
        except KeyError:
            template = self._known[class_id, absent] = self._template(event, values)
        if template is None:
            return None
        seconds, rest = divmod(values.time_ns, _NS)
        if seconds != self._second[0]:
            self._second = seconds, iso_time(seconds * _NS)[:-10]
        time = f"{self._second[1]}{rest:09d}Z"
        places = path, path.rpartition("/")[2] or "/", new_path, new_path.rpartition("/")[2] or "/"
        text, chosen = template
        found: tuple[object, ...] = chosen((time, values.time_ns // 1_000_000, *places, *values[3:], name))
        return text % found

    def _template(self, event: Event, values: Values) -> tuple[str, itemgetter[Any]] | None:
        marked: dict[str, Any] = dict(zip(Values._fields[3:-1], _MARKS[5:], strict=False))
        made = event._replace(
            time_ns=_MARKS[0] * 1_000_000, path=_PATH.encode(),
            new_path=None if values.new_path is None else _NEW_PATH.encode(),
            redacted=() if values.hidden is None else ((0, _MARKS[11]),),
            **{field: mark for field, mark in marked.items() if getattr(values, field) is not None},
        )  # fmt: skip
        if _DIGITS in self._form(event, ""):
            return None
        slots: list[int] = []

        def note(found: re.Match[str]) -> str:
            slots.append(_SLOTS.index(found[0]))
            return "%s"

        text = _MARK.sub(note, self._form(made, _ID).replace("%", "%%"))
        return text, itemgetter(*slots)

    def _plain(self, path: bytes) -> str | None:
        """Return a path as text if it needs no escape, else None."""
        if _SIMPLE.fullmatch(path):
            return path.decode("ascii")
        try:
            text = path.decode()
        except UnicodeDecodeError:
            return None
        if not is_plain(text) or _SPECIAL.search(text):
            return None
        return json.dumps(text)[1:-1] if self._in_json and not text.isascii() else text
