"""JPEG 2000 files and codestreams."""
