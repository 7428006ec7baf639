"""XMP packets and what stands in them."""
