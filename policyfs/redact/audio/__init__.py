"""Sound files in formats without chunks (RIFF) and without boxes (MP4): AMR, FLAC, MP3, AAC, Ogg."""
