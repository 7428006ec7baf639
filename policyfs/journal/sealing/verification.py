"""Checks of the files in a trail directory, for `policyfs audit verify`: segments (in parallel processes),
seals and public keys, and checkpoints from another place."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.journal.files.reader import raw_lines
from policyfs.journal.files.segments import Chain, SegmentDirectory, is_garbled, seal_name, segment_number
from policyfs.journal.sealing.keys import PUBLIC, is_signed
from policyfs.trail.chain import chain as chains
from policyfs.trail.chain.seal import (
    UNREADABLE,
    Checkpoint,
    KeyChain,
    Proof,
    checkpoint_of,
    message,
    read_keys,
    read_seal,
    split,
)
from policyfs.trail.chain.segment_check import SegmentCheck, check_segment

PATIENCE_S: Final = 1.0
"""The longest wait, in seconds, for the rest of a line that is being written in the newest segment."""
_Reader = Callable[[], Iterator[bytes]]
"""A function that yields the lines of a segment (a file of the trail)."""
_LOCKS: Final = Path("/proc/locks")
_WORTH_A_PROCESS: Final = 32 << 20
"""If a trail has at least this size in bytes, several processes check the trail faster than one process."""


class Part(NamedTuple):
    """The check of one segment. lines: reads its lines again. seal: the statement about it, or None."""

    check: SegmentCheck
    lines: Callable[[], list[bytes]]
    seal: Proof | None


@contextmanager
def workers(chains: Collection[Chain]) -> Iterator[Executor | None]:
    """Start processes that check these chains in parallel; None if they have less than 32 MiB, or for one
    processor."""
    size = 0
    for entry in (entry for chain in chains for entry in os.scandir(chain.directory)):
        with suppress(FileNotFoundError):  # rotation has just removed it
            size += entry.stat().st_size
    processors = len(os.sched_getaffinity(0))
    if size < _WORTH_A_PROCESS or processors < 2:
        yield None
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processors, mp_context=context) as pool:
        yield pool


def read_key_chain(directory: Path) -> KeyChain:
    """Return the public keys in a trail directory, or no keys if their file is missing."""
    try:
        lines = (directory / PUBLIC).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        lines = []
    return read_keys(lines, is_signed)


def all_keys(keys: KeyChain, machine: bytes | None) -> KeyChain:
    """Return the keys of the machine (the bytes of its file, or None) if they begin with the keys beside the
    trail; else these."""
    own = read_keys((machine or b"").splitlines(keepends=True), is_signed)
    return own if own.keys[: len(keys.keys)] == keys.keys else keys


def are_of_machine(keys: KeyChain, machine: bytes) -> bool:
    """Return True if the keys beside a trail and those of the machine (the bytes of its file, perhaps from
    before the last key) are equal as far as both lists go. A further key counts as the machine's: the
    previous one has signed it."""
    own = read_keys(machine.splitlines(keepends=True), is_signed).keys
    least = min(len(own), len(keys.keys))
    return least > 0 and own[:least] == keys.keys[:least]


def parts(chain: Chain, keys: KeyChain, wanted: Collection[int], pool: Executor | None) -> Iterator[Part]:
    """Check each segment of a hash chain, and yield the results, oldest first.

    keys: check seals. wanted: numbers of lines whose digests the results have. pool: for parallel checks, or
    None. Raises FileNotFoundError if rotation removes a segment meanwhile.
    """
    names = chain.segments()
    seals = [_seal(chain.directory, name, keys) for name in names]
    readers = [
        partial(raw_lines, chain.directory, name, PATIENCE_S if name == names[-1] else 0.0) for name in names
    ]
    jobs = [
        partial(_check, chain, name, read, seal.seal.lines if seal else 0, frozenset(wanted))
        for name, read, seal in zip(names, readers, seals, strict=True)
    ]
    checks: list[Callable[[], SegmentCheck]] = [*jobs]
    if pool is not None:
        checks = [pool.submit(job).result for job in jobs]
    found = [check() for check in checks]
    # A daemon may have sealed a segment meanwhile, and the newest segment may have a record of this seal. So
    # each seal that was missing is read again after the newest segment, with the keys of that moment.
    now = read_key_chain(chain.directory)
    for name, read, seal, check in zip(names, readers, seals, found, strict=True):
        late = _seal(chain.directory, name, now) if seal is None else None
        if late is not None:
            check = _check(chain, name, read, late.seal.lines, frozenset(wanted))
        yield Part(check, partial(_listed, read), seal or late)


def is_recorded(chain: Chain) -> bool:
    """Return True if a daemon of this pid namespace records in a hash chain, or if this is not known. It
    locks the chain's directory: read from /proc/locks, because taking the lock would fail a daemon that
    starts."""
    inode = os.stat(chain.directory).st_ino
    try:
        locks = _LOCKS.read_text(encoding="ascii")
    except OSError:
        return True  # the daemon may still run
    # A line: "1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE START END"
    # Devices are not compared: on some file systems stat(2) returns another device.
    held = [words for line in locks.splitlines() if len(words := line.split()) >= 6 and words[1] == "FLOCK"]
    return any(words[-3].rpartition(":")[2] == str(inode) for words in held)


def missing_segment(chain: Chain) -> str:
    """Return the newest segment with a seal, if it and all later segments are missing; else ""."""
    with SegmentDirectory.at(chain.directory) as place:
        sealed, names = place.seals()[-1:], place.names()[-1:]
    newest = max((segment_number(name) or 0 for name in names), default=0)
    return next((name for name in sealed if (segment_number(name) or 0) > newest), "")


def _check(chain: Chain, name: str, read: _Reader, sealed_lines: int, wanted: frozenset[int]) -> SegmentCheck:
    number = segment_number(name) or 0
    check = partial(check_segment, chain.mount_id, name, number, sealed_lines=sealed_lines, wanted=wanted)
    try:
        found = check(read())
        suspect = found.cut is not None or not found.sound or found.lines < max(sealed_lines, 1)
        garbled = suspect and is_garbled(chain.directory / name)
        return found._replace(unread="the compressed bytes of this segment were changed" if garbled else "")
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        return check(())._replace(unread=f"this segment cannot be read ({error.strerror})")


def _listed(read: _Reader) -> list[bytes]:
    return list(read())


def _seal(directory: Path, name: str, keys: KeyChain) -> Proof | None:
    with SegmentDirectory.at(directory) as place:
        try:
            line = place.contents(seal_name(name))
        except FileNotFoundError:
            return None
    return read_seal(line, keys, is_signed) or UNREADABLE


def digests_at(chain: Chain, name: str, seqs: Collection[int]) -> dict[int, str]:
    """Return the digests of those lines of a segment whose numbers are in *seqs*, by number."""
    found = {}
    for raw in raw_lines(chain.directory, name):
        sealed = chains.split(raw[:-1])
        seq = chains.seq_of(sealed.body) if sealed else None
        if sealed is not None and seq in seqs and seq is not None:
            found[seq] = sealed.chain
    return found


class KeptCheckpoint(NamedTuple):
    """A checkpoint that was kept in another place. distrust: why it proves nothing; empty if it is signed."""

    checkpoint: Checkpoint
    distrust: str


def kept_checkpoints(lines: Collection[bytes], mount_id: str, keys: KeyChain) -> list[KeptCheckpoint]:
    """Return the checkpoints of the chain *mount_id* among signed lines, in order. A line that was changed is
    left out if a later checkpoint of the chain is valid."""
    found: list[KeptCheckpoint] = []
    valid = False
    for raw in reversed(list(lines)):
        line = split(raw)
        checkpoint = checkpoint_of(line.body) if line else None
        if line is None or checkpoint is None or checkpoint.mount_id != mount_id:
            continue
        key = keys.find(checkpoint.key)
        distrust = ""
        if key is None:
            distrust = (
                f"the checkpoint of {checkpoint.time} is by a key that is not among the keys of the trail"
            )
        elif not is_signed(key.public, message("checkpoint", line.body), line.signature):
            if valid:
                continue
            distrust = f"the signature of the checkpoint of {checkpoint.time} is wrong"
        valid = valid or not distrust
        found.append(KeptCheckpoint(checkpoint, distrust))
    return found[::-1]


def missing_chains(
    lines: Collection[bytes], there: Collection[Chain], machine: bytes | None
) -> dict[str, str]:
    """Return the missing chains that checkpoints (signed lines) name, with the time of their last one. there:
    the chains that exist. machine: the bytes of the machine's public keys, or None. Lines that no known key
    has signed are left out."""
    names = {chain.mount_id for chain in there}
    chains_of_keys = [read_keys((machine or b"").splitlines(keepends=True), is_signed)]
    chains_of_keys += [read_key_chain(chain.directory) for chain in there]
    known = {key.key: key for keys in chains_of_keys for key in keys.keys}
    found = {}
    for line in filter(None, map(split, lines)):
        checkpoint = checkpoint_of(line.body)
        if checkpoint is None or checkpoint.mount_id in names or checkpoint.key not in known:
            continue
        if is_signed(known[checkpoint.key].public, message("checkpoint", line.body), line.signature):
            found[checkpoint.mount_id] = checkpoint.time
    return found
