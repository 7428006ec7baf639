"""The store: every system call on the backing directory, by descriptor and single name (layer 2)."""
