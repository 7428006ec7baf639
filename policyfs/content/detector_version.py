"""Version of the code that finds kinds and plans: a digest of its files.

Whenever a file could get another kind or plan than before, this code has changed, and what older code
found is not believed any more. A number that people raise would be forgotten once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import policyfs

_CODE: Final = ("domain.py*", "formats.py*", "content/*.py*", "redact/**/*.py*", "redact/**/*.so")
"""Patterns of modules (or their compiled form, installed alone) and of those in C, below the package."""


def digest_of_code(package: Path) -> str:
    """Return the digest of a package's code for findings. Raises OSError if a part of it is missing."""
    digest = hashlib.sha256()
    for pattern in _CODE:
        paths = sorted(path for path in package.glob(pattern) if path.parent.name != "__pycache__")
        if not paths:
            raise FileNotFoundError(f"no {pattern} in {package}: policyfs is not installed as a whole")
        for path in paths:
            data = path.read_bytes()
            digest.update(f"{path.relative_to(package)} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]


DETECTOR_VERSION: Final = digest_of_code(Path(policyfs.__file__).parent)
"""Digest at import. INVARIANT: taken before the workers' processes import that code. Should an upgrade come
in between, the new code's findings go under the old digest, where no later daemon looks."""
