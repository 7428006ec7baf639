"""Values of a policy document, each alone."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from policyfs.policy import values
from policyfs.policy.values import MAX_UID


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
