"""Files to test on, made byte by byte or with real tools."""
