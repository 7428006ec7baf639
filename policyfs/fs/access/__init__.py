"""The gate of a mount decides requests by facts, chooses the views of files, and records decisions."""
