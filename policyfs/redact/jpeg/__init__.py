"""JPEG files and what stands behind the picture."""
