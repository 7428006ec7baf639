"""The digest of a policy's texts, and what their reading imports."""

from __future__ import annotations

import hashlib

from policyfs.policy.text.sources import digest_of


def test_the_digest_of_one_text_is_its_sha256() -> None:
    assert digest_of([b"a"]) == hashlib.sha256(b"a").hexdigest()


def test_the_digest_of_several_ignores_their_order_but_no_byte() -> None:
    digest = digest_of([b"a", b"b"])
    assert digest == digest_of([b"b", b"a"])
    others = [[b"ab"], [b"a", b"b", b""], [b"a", b"b", b"b"]]
    assert len({digest, *map(digest_of, others)}) == 4
