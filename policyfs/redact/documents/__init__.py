"""Text files beside photos: sidecars (XMP, JSON), and tracks (logs of coordinates)."""
