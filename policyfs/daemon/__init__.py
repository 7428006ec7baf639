"""The daemon: its parts, its run, its end, and its status (layer 4)."""
