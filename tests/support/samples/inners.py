"""blocks.Inner for tests of one cleaner: what it embeds stays as it is, or is not understood."""

from __future__ import annotations

from typing import Final

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import MAX_PARTS, Budget, Cleaned, Found, Inner
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.patches import ByteSource


class Plain(Inner):
    """Embedded blocks stay as they are."""

    def __init__(self, hide: Tells = Tells.LOCATION) -> None:
        self._hide = hide
        self._budget = Budget(MAX_PARTS, 1 << 30)

    @property
    def hide(self) -> Tells:
        return self._hide

    @property
    def budget(self) -> Budget:
        return self._budget

    def jpeg(self, data: bytes) -> Cleaned | None:
        return Cleaned(data)

    def tiff(self, data: bytes) -> Cleaned | None:
        return Cleaned(data)

    def xmp(self, data: bytes) -> Cleaned:
        return Cleaned(data)

    def iim(self, data: bytes) -> Cleaned:
        return Cleaned(data)

    def irb(self, data: bytes) -> Cleaned | None:
        return Cleaned(data)

    def image(self, data: bytes) -> Cleaned | None:
        return Cleaned(data)

    def file(self, kind: str, source: ByteSource) -> Found | None:
        return Found()

    def text(self, data: bytes) -> bool:
        return bool(Tells.PEOPLE & self.hide or told_in(data, self.hide))


class _Unspent(Plain):
    """Never at the end of its budget, since tests in any number and order share it."""

    @property
    def budget(self) -> Budget:
        return Budget(MAX_PARTS, 1 << 30)


PLACES: Final = _Unspent()
"""Hides places."""
EACH: Final = {str(part.name).lower(): part for part in Tells}
"""Every single thing that can be hidden, by its name."""
