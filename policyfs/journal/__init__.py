"""The journal: the trail (the audit log) on disk (layer 2)."""
