"""A store as one caller would see it: found by a walk, shown as text, JSON or a page."""
