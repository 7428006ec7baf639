"""Sound files that are no chunks or boxes."""
