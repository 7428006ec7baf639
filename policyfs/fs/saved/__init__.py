"""The records of a mount that outlive its daemon: their tables, in memory of the keeper."""
