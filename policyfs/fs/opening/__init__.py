"""Opens: from the decision to the handle, and how long it lives."""
