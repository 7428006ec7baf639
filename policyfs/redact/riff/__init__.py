"""Files of chunks: RIFF."""
