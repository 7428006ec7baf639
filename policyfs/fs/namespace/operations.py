"""All operations on the bytes of open files, and on names and attributes, in two objects."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.fs.data.ranges import Ranges
from policyfs.fs.data.read import FileReader
from policyfs.fs.data.sync import FileSync
from policyfs.fs.data.write import FileWriter
from policyfs.fs.namespace.create import Creator
from policyfs.fs.namespace.entries import Entries
from policyfs.fs.namespace.link import Linker
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.readdir import DirectoryListings
from policyfs.fs.namespace.rename import Renamer
from policyfs.fs.namespace.setattr import AttributeSetter
from policyfs.fs.namespace.unlink import Remover
from policyfs.fs.namespace.xattr import ExtendedAttributes


@dataclass(frozen=True, slots=True)
class DataOperations:
    """One mount's operations on bytes."""

    reader: FileReader
    writer: FileWriter
    sync: FileSync
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class NameOperations:
    """One mount's operations on names and attributes: one object for each family of system calls."""

    entries: Entries
    lookup: Lookup
    listings: DirectoryListings
    creator: Creator
    linker: Linker
    remover: Remover
    renamer: Renamer
    attribute_setter: AttributeSetter
    xattrs: ExtendedAttributes
