"""The store: every system call on the backing directory, by a descriptor and one name (layer 2)."""
