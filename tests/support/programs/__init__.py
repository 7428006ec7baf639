"""Programs that work in a mount, and attacks on it."""
