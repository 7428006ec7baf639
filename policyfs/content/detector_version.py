"""Version of the code that finds kinds and plans: a digest of its files, and of libmagic's database.

A file can get another kind or plan than before only if this code, libmagic or its database has changed.
(disk_cache.py adds the version of libmagic. The database can change without libmagic: by an upgrade, or by
an edit of /etc/magic.) So findings that another version of the code has stored do not count. A digest is
safer than a number that a person must raise by hand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import policyfs
from policyfs.content.libmagic import default_database
from policyfs.linux.code_digest import digest_of

_CODE: Final = ("domain.py*", "formats.py*", "content/*.py*", "redact/**/*.py*", "redact/**/*.so")
"""Patterns of files below the package: Python modules (compiled ones if the source is not installed), and
modules in C."""


def digest_of_code(package: Path) -> str:
    """Return the digest of the code (_CODE) of a package. Raises OSError if a part of the code is missing."""
    code: list[Path] = []
    for pattern in _CODE:
        paths = sorted(path for path in package.glob(pattern) if path.parent.name != "__pycache__")
        if not paths:
            raise FileNotFoundError(f"no {pattern} in {package}: policyfs is not installed as a whole")
        code += paths
    return digest_of(code, package)[:16]


def digest_of_database(paths: str | None = None) -> str:
    """Return the digest of libmagic's database files. paths: the paths that libmagic tries, separated by
    colons (magic_getpath, libmagic(3)); None: the default."""
    tried = (default_database() if paths is None else paths).split(":")
    files = [file for path in tried for file in (Path(path), Path(f"{path}.mgc"))]
    parts = [part for file in files for part in (sorted(file.iterdir()) if file.is_dir() else [file])]
    return digest_of((part for part in parts if part.is_file()), os.sep)[:16]


DETECTOR_VERSION: Final = digest_of_code(Path(policyfs.__file__).parent)
"""The digest of the code, taken when this module is imported.

INVARIANT: the digest is taken before the workers' processes import that code. If an upgrade happens in
between, findings of the new code are stored under the old digest, which no later daemon uses.
"""
DATABASE_VERSION: Final = digest_of_database()
"""The digest of libmagic's database. INVARIANT: taken before the workers' processes load the database."""
