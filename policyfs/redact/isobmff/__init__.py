"""ISO base media files (MP4) and QuickTime files: their boxes, tracks and samples."""
