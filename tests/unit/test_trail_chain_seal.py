"""Seals and keys as lines: what was signed is read back, and nothing else is."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from policyfs.journal.sealing.keys import is_signed
from policyfs.trail.chain.seal import (
    NO_SEAL,
    PublicKey,
    Seal,
    body_of,
    digest_of,
    key_id,
    message,
    public_key_of,
    read_keys,
    read_seal,
    seal_of,
    signed_line,
    split,
)

SECRETS = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]
SEAL = Seal(
    "0123456789abcdef", "00000001-20260301T080000Z.jsonl", 1, 1, 7, 7, 4711, "0" * 64, "a" * 64, "b" * 64,
    "rotation", 0, "2026-03-01T08:00:00.000000000Z", NO_SEAL, key_id(bytes(SECRETS[0].verify_key)),
)  # fmt: skip


def signed(kind: str, body: bytes, secret: SigningKey) -> bytes:
    return signed_line(body, secret.sign(message(kind, body)).signature)


def key_lines(*secrets: SigningKey, signers: list[SigningKey] | None = None) -> list[bytes]:
    lines, previous = [], ""
    for number, secret in enumerate(secrets, start=1):
        public = bytes(secret.verify_key)
        key = PublicKey(number, key_id(public), public, "2026-03-01T08:00:00.000000000Z", previous)
        signer = (signers or [secrets[0], *secrets])[number - 1]
        lines.append(signed("key", body_of("key", key), signer))
        previous = key.key
    return lines


def test_a_seal_is_read_as_it_was_written() -> None:
    line = signed("seal", body_of("seal", SEAL), SECRETS[0])
    keys = read_keys(key_lines(SECRETS[0]), is_signed)
    assert not keys.wrong
    proof = read_seal(line, keys, is_signed)
    assert proof == (SEAL, digest_of(line), "")


def test_a_line_of_many_brackets_is_no_seal_and_no_key() -> None:
    line = signed_line(b'{"a":' + b"[" * 100_000, b"\0" * 64)
    assert read_seal(line, read_keys(key_lines(SECRETS[0]), is_signed), is_signed) is None
    assert read_keys([line], is_signed).wrong == "line 1 is not a public key"


@pytest.mark.parametrize(("old", "new"), [(b'"lines":7', b'"lines":8'), (b"rotation", b"notation")])
def test_a_changed_seal_proves_nothing(old: bytes, new: bytes) -> None:
    line = signed("seal", body_of("seal", SEAL), SECRETS[0]).replace(old, new)
    proof = read_seal(line, read_keys(key_lines(SECRETS[0]), is_signed), is_signed)
    assert proof is not None
    assert "signature of the seal is wrong" in proof.distrust


def test_a_seal_by_a_key_of_somebody_else_proves_nothing() -> None:
    foreign = SEAL._replace(key=key_id(bytes(SECRETS[1].verify_key)))
    line = signed("seal", body_of("seal", foreign), SECRETS[1])
    proof = read_seal(line, read_keys(key_lines(SECRETS[0]), is_signed), is_signed)
    assert proof is not None
    assert "not among the keys" in proof.distrust


def test_a_signature_of_something_else_is_no_signature_of_a_seal() -> None:
    line = signed("checkpoint", body_of("seal", SEAL), SECRETS[0])
    proof = read_seal(line, read_keys(key_lines(SECRETS[0]), is_signed), is_signed)
    assert proof is not None
    assert proof.distrust


def test_each_key_is_signed_by_the_one_before_it() -> None:
    keys = read_keys(key_lines(*SECRETS), is_signed)
    assert (len(keys.keys), keys.wrong) == (3, "")
    intruded = key_lines(*SECRETS, signers=[SECRETS[0], SECRETS[0], SECRETS[2]])
    keys = read_keys(intruded, is_signed)
    assert len(keys.keys) == 2
    assert "not signed by the previous key" in keys.wrong
    assert "does not follow" in read_keys(key_lines(*SECRETS)[1:], is_signed).wrong
    assert "not a public key" in read_keys([b"{}\n"], is_signed).wrong


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b'{"type":"seal"},"signature":"00"}\n', b"[]", b'{"a":1,"signature":"%b"}' % (b"0" * 128)],
)
def test_what_is_no_seal_is_none(line: bytes) -> None:
    assert read_seal(line, read_keys([], is_signed), is_signed) is None


def test_every_field_must_be_of_its_type() -> None:
    body = body_of("seal", SEAL)
    assert seal_of(body) == SEAL
    for old, new in (
        (b'"lines":7', b'"lines":"7"'), (b'"lines":7', b'"lines":true'), (b'"lines":7', b'"lines":-7'),
        (b'"root":"bb', b'"root":"xx'), (b'"format":1', b'"format":2'),
        (b'"closed":"rotation"', b'"closed":1'),
    ):  # fmt: skip
        assert old in body
        assert seal_of(body.replace(old, new)) is None
    [line] = key_lines(SECRETS[0])
    found = split(line)
    assert found is not None
    key = public_key_of(found.body)
    assert key is not None
    assert public_key_of(found.body.replace(key.key.encode(), b"0" * 16)) is None
