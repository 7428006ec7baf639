"""Values of a policy document, each alone."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from policyfs.policy.exceptions import instant_text
from policyfs.policy.text import values
from policyfs.policy.text.values import MAX_UID, instant


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (values.Operation, "all", "all"),
        (values.Kind, "image/*", "image/*"),
        (values.Uids, 10010, (10010, 10010)),
        (values.Uids, "10100-10199", (10100, 10199)),
        (values.Uids, MAX_UID, (MAX_UID, MAX_UID)),
        (values.Kinds, "image/png", ("image/png",)),
        (values.Globs, "/DCIM/**", ("/DCIM/**",)),
        (values.ErrnoName, "EROFS", "EROFS"),
    ],
)
def test_a_value_is_read(kind: object, value: object, read: object) -> None:
    assert TypeAdapter(kind).validate_python(value) == read


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (values.Operation, "list"),
        (values.Kind, "image/jpg"),
        (values.Kind, "jpeg"),
        (values.Uids, MAX_UID + 1),
        (values.Uids, -1),
        (values.Uids, "5-4"),
        (values.Glob, "DCIM"),
        (values.ErrnoName, "EIO"),
        (values.Truth, "yes"),
    ],
)
def test_another_value_is_an_error(kind: object, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00+01:00", 0),
        ("2030-01-31T18:00:00Z", 1896112800),
        ("2030-01-31T18:00:00-05:30", 1896112800 + 5 * 3600 + 1800),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_an_instant_is_read_to_the_second(text: str, seconds: int) -> None:
    assert instant(text) == seconds * 1_000_000_000
    assert instant(instant_text(instant(text))) == instant(text)


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-31", "2030-01-31T18:00", "2030-01-31 18:00:00Z", "2030-01-31T18:00:00z",
        "2030-01-31T18:00:60Z", "2030-01-31T24:00:00Z", "2030-13-01T00:00Z", "20300131T180000Z",
        "2030-W05-4T18:00Z", "2030-01-31T18:00:00.5Z", "2030-01-31T18:00:00+0100",
        "2030-01-31T18:00:00 Z", "٢٠٣٠-01-31T18:00:00Z", "", 2030, 1.5, True, None,
    ],
)  # fmt: skip
def test_no_other_form_of_an_instant_is_read(text: object) -> None:
    with pytest.raises(PydanticCustomError):
        instant(text)
