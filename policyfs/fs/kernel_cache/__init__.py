"""What the kernel may remember: attributes and their timeouts, invalidation, pruning."""
