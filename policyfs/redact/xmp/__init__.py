"""XMP packets and their properties."""
