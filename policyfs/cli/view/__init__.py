"""A store as one caller would see it: a walk through the store, and the result as text, JSON or a page."""
