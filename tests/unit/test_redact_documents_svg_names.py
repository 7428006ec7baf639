"""Names of SVG: what may stay, and what each attribute tells."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.documents import svg_names
from policyfs.redact.documents.svg_names import SVG, XLINK, attribute_tells

INKSCAPE = "http://www.inkscape.org/namespaces/inkscape"


@pytest.mark.parametrize(
    ("namespace", "local", "tells"),
    [
        (SVG, "d", None),
        (SVG, "pointer-events", None),
        (SVG, "aria-label", Tells.PEOPLE),
        (SVG, "onclick", NOTHING),
        (SVG, "data-lat", UNKNOWN),
        (XLINK, "href", None),
        (XLINK, "title", Tells.PEOPLE),
        (INKSCAPE, "label", UNKNOWN & ~Tells.LOCATION),
        (INKSCAPE, "city", UNKNOWN),
        ("urn:x", "d", UNKNOWN),
    ],
)
def test_what_attributes_tell(namespace: str, local: str, tells: Tells | None) -> None:
    assert attribute_tells(namespace, local, linked=False) == tells


def test_the_target_of_a_link_is_not_drawn() -> None:
    assert attribute_tells(XLINK, "href", linked=True) == NOTHING


def test_names_are_whole() -> None:
    lists = (svg_names.ELEMENTS, svg_names.PAGE_ELEMENTS, svg_names.STYLES, svg_names.SHAPES)
    assert all(not name.startswith("-") and not name.endswith("-") for names in lists for name in names)
