"""Names in the store: readers of directories, and temporary names of new objects."""
