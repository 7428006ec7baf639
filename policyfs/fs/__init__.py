"""The file system: nodes, views, the one gate, byte roads, and the handlers that translate (L3)."""
