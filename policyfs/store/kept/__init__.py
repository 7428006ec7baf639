"""What apps have removed or overwritten, kept for undo."""
