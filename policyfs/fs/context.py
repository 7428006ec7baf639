"""The parts of a mount that nearly every operation needs, in one object."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.handles import HandleTable
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import Resolver
from policyfs.store.tree import Tree


@dataclass(frozen=True, slots=True)
class FsContext:
    """One mount: its store, the nodes that the kernel knows, the open files, and the policy's decisions."""

    tree: Tree
    nodes: NodeTable
    handles: HandleTable
    resolver: Resolver
    gate: Gate
