"""Files of chunks: RIFF and AIFF."""
