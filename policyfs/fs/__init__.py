"""The file system of a mount (layer 3): nodes, views, the gate, byte paths, and the handlers of requests."""
