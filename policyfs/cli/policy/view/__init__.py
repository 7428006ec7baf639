"""A store as one caller would see it: a walk through the store. It is shown as text, JSON or a page."""
