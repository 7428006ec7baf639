"""Commands on objects that are kept for undo."""
