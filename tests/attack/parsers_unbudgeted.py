"""A zygote whose locators may do as much work as a file asks for (E4)."""

from __future__ import annotations

import sys

from policyfs.content.workers.zygote import main
from policyfs.redact.core.cleaners import Budget

if __name__ == "__main__":
    for counted in ("part", "search", "extent", "inflate"):
        assert hasattr(Budget, counted)
        setattr(Budget, counted, lambda self, size=1: None)
    Budget.look = lambda self, size: True  # type: ignore[method-assign]
    sys.exit(main())
