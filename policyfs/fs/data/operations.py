"""All operations on the bytes of open files, as one object."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.fs.data.ranges import Ranges
from policyfs.fs.data.read import FileReader
from policyfs.fs.data.sync import FileSync
from policyfs.fs.data.write import FileWriter


@dataclass(frozen=True, slots=True)
class DataOperations:
    """One mount's operations on bytes."""

    reader: FileReader
    writer: FileWriter
    sync: FileSync
    ranges: Ranges
