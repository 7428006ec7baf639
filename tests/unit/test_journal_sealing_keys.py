"""The keys that sign: made at first use, for root alone, one signed by the other."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from policyfs.journal.sealing import keys
from policyfs.journal.sealing.ends import ends
from policyfs.journal.sealing.keys import KeyStore, is_signed
from policyfs.trail.chain.seal import Checkpoint, body_of, message, read_keys, split


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "lib" / "audit-keys")


def secrets(store: KeyStore) -> list[Path]:
    return list(store.directory.glob("*.private"))


def test_the_first_use_makes_a_key_for_its_owner_alone(store: KeyStore) -> None:
    assert store.public() == b""
    signer = store.signer()
    assert store.signer().key == signer.key
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in store.directory.iterdir()} == {0o600}
    line = split(signer.sign("seal", b'{"a":1'))
    assert line is not None
    assert is_signed(signer.key.public, message("seal", line.body), line.signature)
    assert not is_signed(signer.key.public, message("key", line.body), line.signature)


def test_a_new_key_is_signed_by_the_old_one_whose_secret_is_forgotten(store: KeyStore) -> None:
    old, new = store.signer(), store.rotate()
    assert (new.key.number, new.key.previous) == (2, old.key.key)
    assert [path.name for path in secrets(store)] == [f"{new.key.key}.private"]
    keys = read_keys(store.public().splitlines(keepends=True), is_signed)
    assert (keys.keys, keys.wrong) == ((old.key, new.key), "")


def test_rotation_without_a_key_makes_the_first(store: KeyStore) -> None:
    assert store.rotate().key.number == 1


def test_all_that_begin_at_once_have_the_same_key(store: KeyStore) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(store.signer().key.key)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_nobody_waits_for_ever_for_the_keys(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.signer()
    monkeypatch.setattr(keys, "_PATIENCE_S", 0.05)
    holder = os.open(store.directory, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError):
        store.signer()
    os.close(holder)
    store.signer()


def test_a_secret_that_others_may_read_is_refused(store: KeyStore) -> None:
    store.signer()
    secrets(store)[0].chmod(0o644)
    with pytest.raises(PermissionError, match="make a new key"):
        store.signer()
    secrets(store)[0].chmod(0o600)
    store.directory.chmod(0o755)
    with pytest.raises(PermissionError, match="other users may use the directory of the keys"):
        store.signer()


def test_damaged_keys_are_refused_and_not_replaced(store: KeyStore) -> None:
    store.signer()
    secret = secrets(store)[0]
    text = secret.read_bytes()
    for damaged in (b"", b"zz" * 32, os.urandom(32).hex().encode()):
        secret.write_bytes(damaged)
        with pytest.raises(OSError, match="secret key"):
            store.signer()
    secret.write_bytes(text)
    public = store.directory / "keys.public"
    public.write_bytes(public.read_bytes() + b"{}\n")
    with pytest.raises(OSError, match="are not valid"):
        store.signer()


def test_secrets_that_a_killed_process_has_left_are_removed(tmp_path: Path) -> None:
    """It was killed between the new public key and the end of the old secret, or before the public key."""
    store = KeyStore(tmp_path / "keys")
    old = store.signer().key.key
    kept = (store.directory / f"{old}.private").read_bytes()
    new = store.rotate().key.key
    for left in (f"{old}.private", ".new-0011.private", "0022.private"):
        (store.directory / left).write_bytes(kept)
        assert KeyStore(store.directory).signer().key.key == new
        assert [path.name for path in store.directory.glob("*.private")] == [f"{new}.private"]


def _end(store: KeyStore, seal: str) -> bytes:
    made = Checkpoint("chain", 1, "0" * 64, "", 1, 1, "0" * 64, seal, "", store.signer().key.key)
    return store.signer().sign("checkpoint", body_of("checkpoint", made))


def test_a_last_seal_replaces_only_the_seal_before_it(store: KeyStore, tmp_path: Path) -> None:
    trail = str(tmp_path / "trail/chain")
    first, second, other = (_end(store, digit * 64) for digit in "123")
    store.keep_end(trail, first, [])
    store.keep_end(trail, second, ["1" * 64])
    assert list(ends(store.directory, tmp_path / "trail").values()) == [[second]]
    store.keep_end(trail, other, ["1" * 64])  # the chain was put back to a copy from before the second seal
    assert list(ends(store.directory, tmp_path / "trail").values()) == [[second, other]]
    assert ends(store.directory, tmp_path) == {}
    store.rotate()
    assert len(ends(store.directory, tmp_path / "trail")) == 1
