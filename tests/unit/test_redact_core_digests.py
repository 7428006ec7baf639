"""policyfs/redact/core/digests.py."""

from __future__ import annotations

from policyfs.redact.core.digests import md5, md5_text


def test_the_digest_is_md5_as_rfc_1321_has_it() -> None:
    assert md5(b"abc").hex() == "900150983cd24fb0d6963f7d28e17f72"
    assert md5_text(b"message digest") == b"F96B697D7CB7938D525A2F31AAF161D0"
