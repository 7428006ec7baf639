"""Tests that cannot run in the root of `make test-debian13`, each with its reason.

docs/debian13.md has the same list, and a test compares the two.
"""

from __future__ import annotations

from typing import Final

LEFT_OUT: Final[dict[str, str]] = {
    "tests/redaction/test_matrix.py::test_nothing_leaks_and_nothing_is_harmed[material_boxes]": (
        "avifenc of Debian 13 (libavif 1.2.1) dies of a segmentation fault when it makes a sequence of"
        " pictures with Exif, so that one sample cannot be made"
    ),
}
