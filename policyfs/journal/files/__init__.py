"""Files of the journal: segments, compression, retention."""
