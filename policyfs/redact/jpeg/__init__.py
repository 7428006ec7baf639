"""JPEG files, and data behind the picture."""
