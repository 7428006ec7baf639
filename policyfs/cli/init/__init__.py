"""A first policy and its tests, from what a person wants to share and with whom."""
