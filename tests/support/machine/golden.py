"""Golden outputs: files that a command must print again. POLICYFS_UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(path: Path, text: str) -> None:
    """Fail unless a text is that of the file."""
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text("utf-8"), f"{path.name}: POLICYFS_UPDATE_GOLDEN=1 writes it anew"
