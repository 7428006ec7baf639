"""The kernel's caches: attributes and their timeouts, invalidation, pruning."""
