"""CONTRIBUTING.md names what is there, and for a format nothing is missing."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def steps(title: str) -> list[str]:
    """The numbered steps of one section."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return [" ".join(step.split()) for step in re.findall(r"^\d+\. (.*(?:\n   .*)*)", section, re.MULTILINE)]


def files(title: str) -> set[str]:
    return {path for step in steps(title) for path in re.findall(r"`([\w/]+\.(?:py|md))`", step)}


def test_every_path_is_there() -> None:
    found = re.findall(r"`((?:policyfs|tests|docs)/[\w./]*)`", PAGE)
    assert len(found) > 25
    for path in found:
        assert (CHECKOUT / path).exists(), path


def test_each_how_to_has_its_steps() -> None:
    least_of = {
        "Add a format": 5,
        "Add a FUSE request": 7,
        "Add a command": 4,
        "Change an open, or a read, of one byte path": 5,
        "Mend a fault": 4,
    }
    for title, least in least_of.items():
        assert len(steps(title)) >= least
        assert files(title)


def test_a_format_stands_where_the_page_says_and_nowhere_else() -> None:
    """GIF is the example: each file of policyfs that knows it is on the page."""
    knows = re.compile(r"image/gif|\bgif\.py\b|import .*\bgif\b|locate_gif")
    sources = (CHECKOUT / "policyfs").rglob("*.py")
    found = {
        str(path.relative_to(CHECKOUT))
        for path in sources
        if knows.search(re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text(encoding="utf-8")))
    }
    assert found == {path for path in files("Add a format") if path.startswith("policyfs/")}
    assert len(found) == 2  # the locator, and the row
    for path in files("Add a format") - found:
        assert (CHECKOUT / path).exists()


def test_an_operation_stands_where_the_page_says() -> None:
    """STATX is one that pyfuse3 does not know."""
    for path in ("policyfs/kernel/protocol.py", "policyfs/kernel/requests.py", "policyfs/fs/raw_handlers.py"):
        assert path in files("Add a FUSE request")
        assert re.search("statx", (CHECKOUT / path).read_text(encoding="utf-8"), re.IGNORECASE)


def test_a_command_stands_where_the_page_says() -> None:
    assert files("Add a command") >= {
        "policyfs/cli/audit/export.py",
        "policyfs/cli/audit/command.py",
        "policyfs/cli/main.py",
        "docs/operations.md",
    }
    assert "def add_export(" in (CHECKOUT / "policyfs/cli/audit/export.py").read_text(encoding="utf-8")
    table = (CHECKOUT / "policyfs/cli/audit/command.py").read_text(encoding="utf-8")
    assert '"export": ("audit.export", ' in table
    assert "policyfs audit export" in (CHECKOUT / "docs/audit.md").read_text(encoding="utf-8")
