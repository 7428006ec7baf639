"""Modules that are loaded at their first use, or replaced for an import."""

from __future__ import annotations

import subprocess
import sys

LATE = """
import sys
from policyfs.linux.late_modules import load_late
load_late("colorsys", "sys")
import colorsys
import colorsys as again
print(type(sys.modules["colorsys"]).__name__, type(sys).__name__)
from colorsys import hsv_to_rgb
print(colorsys.rgb_to_hsv is sys.modules["colorsys"].rgb_to_hsv, hsv_to_rgb is colorsys.hsv_to_rgb)
print(type(sys.modules["colorsys"]).__name__)
"""
STAND_IN = """
import sys
from policyfs.linux.late_modules import stand_in
with stand_in("colorsys", version="one"):
    from colorsys import version
    print(version, type(sys.modules["colorsys"]).__name__)
print("colorsys" in sys.modules)
with stand_in("colorsys", version="one"):
    from colorsys import version, hsv_to_rgb
import colorsys
print(colorsys.hsv_to_rgb is hsv_to_rgb)
with stand_in("colorsys", version="two"):
    print(hasattr(colorsys, "version"))
"""


def said(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    return done.stdout.decode().splitlines()


def test_a_late_module_is_loaded_when_it_is_used() -> None:
    assert said(LATE) == ["LateModule module", "True True", "module"]


def test_a_stand_in_has_its_own_names_and_those_of_the_module() -> None:
    assert said(STAND_IN) == ["one LateModule", "False", "True", "False"]
