"""Commands for what is kept of what apps have removed or overwritten."""
