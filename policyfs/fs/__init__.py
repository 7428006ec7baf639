"""The file system: nodes, views, the one gate, byte paths, and the handlers that translate (L3)."""
