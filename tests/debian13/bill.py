"""Checks the list of libraries in a wheel: CycloneDX by its schema, versions and digests as in the lock. And
that its C protects the stack.

    python3 bill.py WHEEL LOCK
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from cyclonedx.schema import OutputFormat, SchemaVersion  # type: ignore[import-not-found]
from cyclonedx.validation import make_schemabased_validator  # type: ignore[import-not-found]

with zipfile.ZipFile(sys.argv[1]) as wheel:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/sboms/policyfs.cdx.json")]
    text = wheel.read(name).decode()
    modules = [name for name in wheel.namelist() if name.endswith(".so")]
    unprotected = [name for name in modules if b"__stack_chk_fail" not in wheel.read(name)]
if not modules or unprotected:
    sys.exit(f"bill.py: without a protected stack: {unprotected}")
lock = Path(sys.argv[2]).read_text("utf-8")
fault = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(text)
parts = json.loads(text)["components"]
missing = [part["name"] for part in parts if f"{part['name']}=={part['version']} " not in lock]
missing += [
    part["name"] for part in parts for one in part["hashes"] if f"sha256:{one['content']}" not in lock
]
wanted = {"pyfuse3", "trio", "pydantic", "ruamel-yaml"} - {part["name"] for part in parts}
if fault is not None or missing or wanted or not all(part["hashes"] for part in parts):
    sys.exit(f"bill.py: {fault or 'not as locked'}: {missing or sorted(wanted)}")
print(f"bill.py: {len(parts)} libraries")
