"""Rules for tags, made from rows."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.exif.rules import How, Rule, numbers, rules, whole_tells


def test_numbers_are_hexadecimal():
    assert list(numbers("1 4 2e 9003")) == [1, 4, 0x2E, 0x9003]
    assert list(numbers("")) == []


def test_a_table_has_no_ranges():
    with pytest.raises(ValueError, match="1-4"):
        rules(("2e 1-4", Tells.TIME))


def test_a_row_gives_each_of_its_tags_one_rule():
    table = rules(("1 2", Tells.TIME), ("14a", NOTHING, How.DIRECTORY, "IFD"))
    assert table == {1: Rule(Tells.TIME), 2: Rule(Tells.TIME), 0x14A: Rule(NOTHING, How.DIRECTORY, "IFD")}


@pytest.mark.parametrize(
    ("rule", "tells"),
    [
        (Rule(Tells.TIME), Tells.TIME),
        (Rule(Tells.TIME, How.CITY), Tells.TIME | Tells.LOCATION),
        (Rule(NOTHING, How.XMP), NOTHING),
    ],
)
def test_a_city_that_cannot_be_taken_out_makes_the_whole_tell_a_place(rule, tells):
    assert whole_tells(rule) == tells
