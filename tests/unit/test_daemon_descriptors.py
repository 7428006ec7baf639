"""How the limit of descriptors is divided."""

from __future__ import annotations

import pytest

from policyfs.daemon import descriptors


@pytest.mark.parametrize("limit", [16, 64, 256, 1024, 4096, 1 << 20])
@pytest.mark.parametrize("vectors", [0, 4, 128, 1024])
def test_directories_of_all_parts_have_an_eighth(
    monkeypatch: pytest.MonkeyPatch, limit: int, vectors: int
) -> None:
    monkeypatch.setattr(descriptors, "_limit", lambda: limit)
    of_resolver, of_vectors = descriptors.of_directories(vectors)
    assert of_resolver + of_vectors == max(16, min(4096, limit // 8))
    assert of_vectors <= vectors
    assert (of_vectors > 0) == (vectors > 0)
    assert of_resolver >= 3 * of_vectors
