"""Text files beside photos: sidecars, tracks."""
