"""ISO base media files and QuickTime: boxes, tracks, samples."""
