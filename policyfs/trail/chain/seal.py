"""Seals (signed statements about closed files of the trail, called segments), and the keys that sign (pure).

A seal is one line, ``BODY,"signature":"HEX"}``, in a file beside its segment. The Ed25519 signature covers a
prefix (another one for keys and checkpoints) and BODY. Public keys are such lines in ``keys.public``, each
signed with the previous key, the first with itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from policyfs.trail.chain import chain

NO_SEAL: Final = "0" * 64
"""The value of Seal.previous in the first seal of a trail, which has no previous seal."""

_SIGNATURE: Final = re.compile(rb'(\{.*),"signature":"([0-9a-f]{128})"\}', re.DOTALL)
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_KEY_ID_BYTES: Final = 8

_NUMBERS: Final = frozenset({"number", "first_seq", "last_seq", "lines", "size", "adopted", "seq"})
_DIGESTS: Final = frozenset({"public", "opening", "head", "root"})
_MOST: Final = 1 << 60

Check = Callable[[bytes, bytes, bytes], bool]
"""A function that returns True if a signature is valid. Arguments: public key, signed bytes, signature."""


class Seal(NamedTuple):
    """A signed statement of the daemon about the lines of one segment, from its first line on.

    mount_id, segment, number: the hash chain, and name and number of the segment. first_seq, last_seq, lines,
    size: first and last number, count and bytes of the lines. opening: the digest before the first of them.
    head: that of the last. root: of their Merkle tree. closed: why the segment was closed. adopted: the last
    line that an earlier daemon had written and not sealed, or 0. previous: the digest of the previous seal.
    key: the id of the key that signs.
    """

    mount_id: str
    segment: str
    number: int
    first_seq: int
    last_seq: int
    lines: int
    size: int
    opening: str
    head: str
    root: str
    closed: str
    adopted: int
    time: str
    previous: str
    key: str


class Checkpoint(NamedTuple):
    """A signed statement about the end of a hash chain at some time, which the user keeps at another place.

    mount_id: the chain. seq, head: number and digest of its last line. segment: its newest file, with the
    number, the bytes and the Merkle root of its lines. seal: the digest of the chain's newest seal. key: the
    id of the key that signs.
    """

    mount_id: str
    seq: int
    head: str
    segment: str
    lines: int
    size: int
    root: str
    seal: str
    time: str
    key: str


class PublicKey(NamedTuple):
    """A public key, signed with the previous one. number: its position among the machine's keys, from 1. key:
    its id. public: its bytes. made: when. previous: the id of the previous key, or empty."""

    number: int
    key: str
    public: bytes
    made: str
    previous: str


class SignedLine(NamedTuple):
    """The parts of a signed line (seal, public key or checkpoint). digest: the SHA-256 of the whole line."""

    body: bytes
    signature: bytes
    digest: str


def key_id(public: bytes) -> str:
    """Return the id of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).digest()[:_KEY_ID_BYTES].hex()


def message(kind: str, body: bytes) -> bytes:
    """Return the bytes that are signed. kind: ``seal``, ``key`` or ``checkpoint``."""
    return b"policyfs %b\n%b" % (kind.encode("ascii"), body)


def body_of(kind: str, record: NamedTuple) -> bytes:
    """Return a seal, public key or checkpoint (kind) as a JSON line without signature and closing brace."""
    fields = {"type": kind, "format": 1}
    for name, value in record._asdict().items():
        fields[name] = value.hex() if isinstance(value, bytes) else value
    return json.dumps(fields, separators=(",", ":"))[:-1].encode("ascii")


def signed_line(body: bytes, signature: bytes) -> bytes:
    """Return a complete signed line with its newline. body: the line without its signature."""
    return b'%b,"signature":"%b"}\n' % (body, signature.hex().encode("ascii"))


def split(line: bytes) -> SignedLine | None:
    """Split a signed line into body and signature. Return None if the line has no signature."""
    found = _SIGNATURE.fullmatch(line.removesuffix(b"\n"))
    if found is None:
        return None
    return SignedLine(found[1], bytes.fromhex(found[2].decode()), digest_of(line))


def digest_of(line: bytes) -> str:
    """Return the SHA-256 (hex) of a seal's line. The next seal contains this digest."""
    return hashlib.sha256(line).hexdigest()


def seal_of(body: bytes) -> Seal | None:
    """Parse a seal's line without its signature. Return None if it is not a seal."""
    values = _values(body, "seal", Seal)
    return Seal(*values) if values is not None else None  # type: ignore[arg-type]


def checkpoint_of(body: bytes) -> Checkpoint | None:
    """Parse a checkpoint's line without its signature. Return None if it is not a checkpoint."""
    values = _values(body, "checkpoint", Checkpoint)
    return Checkpoint(*values) if values is not None else None  # type: ignore[arg-type]


def public_key_of(body: bytes) -> PublicKey | None:
    """Parse a public key's line without its signature. Return None if it is no key, or has a wrong id."""
    values = _values(body, "key", PublicKey)
    if values is None:
        return None
    key = PublicKey(*values)  # type: ignore[arg-type]
    return key if key_id(key.public) == key.key else None


def _values(body: bytes, kind: str, record: type[NamedTuple]) -> list[object] | None:
    """Return the values of a signed line's fields, or None if one is missing or has the wrong type."""
    try:
        fields = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("type") != kind or fields.get("format") != 1:
        return None
    values: list[object] = []
    for name in record._fields:
        value = fields.get(name)
        if name in _NUMBERS:
            if type(value) is not int or not 0 <= value < _MOST:
                return None
        elif not isinstance(value, str):
            return None
        elif name in _DIGESTS:
            if not _HEX.fullmatch(value):
                return None
            value = bytes.fromhex(value) if name == "public" else value
        values.append(value)
    return values


class KeyChain(NamedTuple):
    """The public keys of a trail, oldest first, each signed with the previous. wrong: why later ones are not
    valid."""

    keys: tuple[PublicKey, ...]
    wrong: str

    def find(self, key: str) -> PublicKey | None:
        """Return the public key with the id *key*, or None."""
        return next((one for one in self.keys if one.key == key), None)


def read_keys(lines: Iterable[bytes], check: Check) -> KeyChain:
    """Return the public keys in *lines* (of ``keys.public``), up to the first that is not valid. check: of
    signatures."""
    keys: list[PublicKey] = []
    for number, raw in enumerate(lines, start=1):
        line = split(raw)
        key = public_key_of(line.body) if line else None
        if line is None or key is None:
            return KeyChain(tuple(keys), f"line {number} is not a public key")
        signer = keys[-1] if keys else key
        if key.number != number or key.previous != (keys[-1].key if keys else ""):
            return KeyChain(tuple(keys), f"key {key.key} does not follow the previous key")
        if not check(signer.public, message("key", line.body), line.signature):
            return KeyChain(tuple(keys), f"key {key.key} is not signed by the previous key")
        keys.append(key)
    return KeyChain(tuple(keys), "")


class Proof(NamedTuple):
    """A seal, and the check of its signature. digest: the SHA-256 of its line. distrust: why it proves
    nothing."""

    seal: Seal
    digest: str
    distrust: str


UNREADABLE: Final = Proof(
    Seal("", "", 0, 0, 0, 0, 0, NO_SEAL, NO_SEAL, NO_SEAL, "", 0, "", NO_SEAL, ""), NO_SEAL,
    "the seal was changed so that it is not a seal any more",
)  # fmt: skip


def read_seal(line: bytes, keys: KeyChain, check: Check) -> Proof | None:
    """Parse a seal and check its signature by these keys. Return None if *line* is not a seal."""
    found = split(line)
    seal = seal_of(found.body) if found else None
    if found is None or seal is None:
        return None
    key = keys.find(seal.key)
    distrust = ""
    if key is None:
        distrust = f"the seal is signed by the key {seal.key}, which is not among the keys of this trail"
    elif not check(key.public, message("seal", found.body), found.signature):
        distrust = "the signature of the seal is wrong: the seal was changed"
    return Proof(seal, found.digest, distrust)


def entries_of(lines: Iterable[bytes]) -> bytes:
    """Return the entries of a Merkle tree over lines: 32 bytes each, the digest in the line, or zeros."""
    entries = bytearray()
    for line in lines:
        sealed = chain.split(line.removesuffix(b"\n"))
        entries += bytes.fromhex(sealed.chain) if sealed else bytes(32)
    return bytes(entries)
