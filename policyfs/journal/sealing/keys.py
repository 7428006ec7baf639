"""The keys that sign seals (statements about closed segments). Only root can read the private keys.

Their directory (mode 0700) is not below the trail root: a copy of a trail must not have a key to forge it.
``keys.public`` has one line for each public key, signed with the previous key. ``KEY.private`` is the newest
private key; older ones are deleted, so that a thief cannot sign with yesterday's. ``CHAIN-ROOT.end`` has a
checkpoint of the last sealed line of a chain: it shows that its newest files were removed later. Errors:
OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from policyfs.journal.files.segments import DIRECTORY, REGULAR, write_file
from policyfs.journal.sealing.ends import file_name, lines_of
from policyfs.linux.private_files import make_private
from policyfs.trail.chain.seal import (
    KeyChain,
    PublicKey,
    body_of,
    checkpoint_of,
    key_id,
    message,
    read_keys,
    signed_line,
    split,
)
from policyfs.trail.lines.line import iso_time

PUBLIC: Final = "keys.public"
_SECRET: Final = ".private"  # noqa: S105 - the end of a file name
_SECRET_BYTES: Final = 32
_ENDS_LIMIT: Final = 100
"""The limit of checkpoints in the file of a chain. There is more than one only if the chain was put back."""
_PATIENCE_S: Final = 2.0
_PAUSE_S: Final = 0.005


def is_signed(public: bytes, text: bytes, signature: bytes) -> bool:
    """Return True if *signature* is a valid Ed25519 signature of *text* by the public key *public*."""
    try:
        VerifyKey(public).verify(text, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


class Signer:
    """The newest key pair, which signs lines, and the content of the file ``keys.public``."""

    def __init__(self, key: PublicKey, secret: SigningKey, lines: bytes) -> None:
        self.key = key
        self.lines: Final = lines
        self._secret = secret

    def sign(self, kind: str, body: bytes) -> bytes:
        """Return *body* as a line with a signature. kind: ``seal``, ``checkpoint`` or ``key``."""
        return signed_line(body, self._secret.sign(message(kind, body)).signature)


class KeyStore:
    """The directory with the keys of a machine, for several threads and processes at the same time."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory

    def public(self) -> bytes:
        """Return the bytes of the file ``keys.public``, or no bytes if there are no keys yet."""
        try:
            return (self.directory / PUBLIC).read_bytes()
        except FileNotFoundError:
            return b""

    def signer(self) -> Signer:
        """Return the newest key pair, to sign with. If there is no key yet, create the first key."""
        with self._locked() as place:
            lines = self.public()
            newest = self._read(place, lines) if lines else self._make(place, None)
            _forget_others(place, newest.key)
            return newest

    def rotate(self) -> Signer:
        """Create a new key pair, sign its public key with the previous key, and delete older private keys."""
        with self._locked() as place:
            lines = self.public()
            old = self._read(place, lines) if lines else None
            new = self._make(place, old)
            _forget_others(place, new.key)
            return new

    def keep_end(self, trail: str, line: bytes, before: Collection[str]) -> None:
        """Write the checkpoint *line* of the chain in the directory *trail* to the chain's file of its end.

        before: the digests of the chain's earlier seals, as far as the caller knows them. The checkpoint
        replaces an earlier one only if that is about one of these seals. Otherwise the earlier one stays: it
        shows that somebody has put the chain back to an older copy, which the daemon has continued.
        """
        chain = Path(os.path.realpath(trail))
        name = file_name(chain.name, chain.parent)
        with self._locked() as place:
            kept = lines_of(self.directory / name)
            last = split(kept[-1]) if kept else None
            replaced = checkpoint_of(last.body) if last else None
            if replaced is not None and replaced.seal in before:
                kept.pop()
            write_file(place, name, b"".join([*kept, line][-_ENDS_LIMIT:]))

    @contextmanager
    def _locked(self) -> Iterator[int]:
        make_private(self.directory)
        place = os.open(self.directory, DIRECTORY)
        try:
            info = os.fstat(place)
            if info.st_mode & 0o077 or info.st_uid != os.geteuid():
                why = "other users may use the directory of the keys"
                raise PermissionError(errno.EPERM, why, str(self.directory))
            _lock(place)
            yield place
        finally:
            os.close(place)

    def _read(self, place: int, lines: bytes) -> Signer:
        chain = _chain(lines)
        name = chain.keys[-1].key + _SECRET
        fd = os.open(name, REGULAR, dir_fd=place)
        with open(fd, "rb") as file:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or info.st_mode & 0o077:
                raise PermissionError(errno.EPERM, "other users may read a secret key: make a new key", name)
            secret = SigningKey(_seed(file.read(_SECRET_BYTES * 2 + 1), name))
        if bytes(secret.verify_key) != chain.keys[-1].public:
            raise OSError(errno.EINVAL, "the secret key does not fit its public key", name)
        return Signer(chain.keys[-1], secret, lines)

    def _make(self, place: int, old: Signer | None) -> Signer:
        secret = SigningKey.generate()
        public = bytes(secret.verify_key)
        number, previous = (old.key.number + 1, old.key.key) if old else (1, "")
        key = PublicKey(number, key_id(public), public, iso_time(time.time_ns()), previous)
        new = Signer(key, secret, b"")
        line = (old or new).sign("key", body_of("key", key))
        lines = (old.lines if old else b"") + line
        # The private key is written first: a public key without its private key would be of no use.
        write_file(place, key.key + _SECRET, bytes(secret).hex().encode() + b"\n")
        write_file(place, PUBLIC, lines)
        return Signer(key, secret, lines)


def _forget_others(place: int, newest: PublicKey) -> None:
    """Remove all private keys except the newest, also private keys that a killed process has left."""
    own = newest.key + _SECRET
    others = [name for name in os.listdir(place) if name.endswith(_SECRET) and name != own]
    for name in others:
        os.unlink(name, dir_fd=place)
    if others:
        os.fsync(place)


def _lock(place: int) -> None:
    """Lock the directory of the keys, held only for moments. Raise BlockingIOError after 2 s: a daemon that
    ends may wait here."""
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def _chain(lines: bytes) -> KeyChain:
    chain = read_keys(lines.splitlines(keepends=True), is_signed)
    if chain.wrong:
        raise OSError(errno.EINVAL, f"the keys are not valid: {chain.wrong}", PUBLIC)
    return chain


def _seed(text: bytes, name: str) -> bytes:
    with suppress(ValueError):
        seed = bytes.fromhex(text.decode("ascii", "replace").strip())
        if len(seed) == _SECRET_BYTES:
            return seed
    raise OSError(errno.EINVAL, "this is not a secret key", name)
