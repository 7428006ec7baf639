"""Sound files without chunks or boxes."""
