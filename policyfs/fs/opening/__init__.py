"""Opens: from the decision to the handle, and the handle's lifecycle."""
