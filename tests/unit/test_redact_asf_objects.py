"""Objects of ASF: their names, and their ranges where the file is cut off."""

from __future__ import annotations

import pytest

from policyfs.redact.asf.objects import Part, parts
from policyfs.redact.core.cleaners import Budget, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.registry import _Cleaners
from tests.support.samples.asfs import UNKNOWN, made
from tests.unit.test_redact_registry import cleaners


def found(data: bytes) -> list[Part]:
    return list(parts(MemorySource(data), 0, len(data), cleaners()))


def test_objects_one_behind_the_other():
    data = made("padding", b"abc") + made(UNKNOWN, b"x") + b"rest"
    assert found(data) == [Part("padding", 0, 24, 27, True), Part("", 27, 51, 52, True)]


@pytest.mark.parametrize("size", [0, 5, 99, 1 << 63])
def test_impossible_sizes(size):
    (one,) = found(made("padding", b"abc", size=size) if size else made("padding")[:16] + bytes(8))
    assert not one.whole
    assert one.end <= 27


def test_too_many_objects():
    data = made("padding") * 9
    with pytest.raises(TooMuchError):
        list(parts(MemorySource(data), 0, len(data), _Cleaners(cleaners().hide, Budget(8, 1 << 20), 1)))
