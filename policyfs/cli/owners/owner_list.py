"""Lists of owners: a file with one line of JSON for each file of the store that an app owns.

The names of files may have any bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pydantic_core import PydanticCustomError

from policyfs.domain import OWNER_NONE, FileType
from policyfs.errors import PolicyfsError
from policyfs.policy.text.values import app_name

HEADER: Final = {"policyfs": "owners", "version": 1}
_SHOWN: Final = 20
_TYPES: Final = {ftype.value: ftype for ftype in FileType if ftype is not FileType.SPECIAL}


class Owned(NamedTuple):
    """One line of a list of owners. names: the names of the file's path, from the top of the store down; ()
    for the top."""

    names: tuple[bytes, ...]
    ftype: FileType
    owner: str

    @property
    def path(self) -> bytes:
        """The path of the file below the top of the store."""
        return b"/" + b"/".join(self.names)


def written(owned: Iterable[Owned]) -> Iterator[str]:
    """Yield the lines of a list of owners."""
    yield json.dumps(HEADER) + "\n"
    for one in owned:
        fields: dict[str, str] = {}
        try:
            fields["path"] = one.path.decode()
        except UnicodeDecodeError:
            fields["path"] = one.path.decode("utf-8", "replace")
            fields["path_b64"] = base64.b64encode(one.path).decode()
        yield json.dumps(fields | {"type": one.ftype.value, "owner": one.owner}) + "\n"


def read(lines: Iterable[bytes], source: str) -> list[Owned]:
    """Return the entries of a list of owners. source: the list's name in errors. Raises PolicyfsError for
    wrong lines."""
    found: list[Owned] = []
    wrong: list[str] = []
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            if number == 1:
                if fields != HEADER:
                    raise ValueError("this is not a list of `policyfs owner export`")
                continue
            found.append(_owned(fields))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            wrong.append(f"{source}:{number}: {_said(error)}")
            if number == 1:
                break
    if not number:
        wrong.append(f"{source} is empty: this is not a list of `policyfs owner export`")
    if wrong:
        raise PolicyfsError("\n  ".join(["the list has errors, and nothing was changed:", *wrong[:_SHOWN]]))
    return found


def _said(error: Exception) -> str:
    return f"the key {error} is missing" if isinstance(error, KeyError) else f"{error}"


def _owned(fields: object) -> Owned:
    if not isinstance(fields, dict):
        raise TypeError("a line must be an object with path, type and owner")
    if not isinstance(fields["path"], str):
        raise TypeError("path must be text")
    path = fields["path"].encode()
    if "path_b64" in fields:
        path = base64.b64decode(fields["path_b64"], validate=True)
    ftype, owner = _TYPES.get(fields["type"]), fields["owner"]
    if ftype is None:
        raise ValueError(f"type must be one of {', '.join(_TYPES)}")
    return Owned(names_of(path), ftype, checked_owner(owner))


def names_of(path: bytes) -> tuple[bytes, ...]:
    """Return the names of an absolute path. Raises ValueError."""
    names = tuple(one for one in path.split(b"/") if one)
    if not path.startswith(b"/") or b"\0" in path or not {b".", b".."}.isdisjoint(names):
        raise ValueError(
            "write the path from the top of the store, such as /DCIM/a.jpg, without ., .. and NUL bytes"
        )
    return names


def checked_owner(owner: object) -> str:
    """Return *owner* if it is the name of an app or `none`. Raises ValueError if not."""
    if owner != OWNER_NONE:
        try:
            return app_name(owner)
        except PydanticCustomError as error:
            raise ValueError("the owner must be the name of an app, or none") from error
    return OWNER_NONE
