"""ASF: Windows Media Video and Audio."""
