"""Sound files in formats without chunks (RIFF) and without boxes (MP4): FLAC, MP3, AAC, Ogg."""
