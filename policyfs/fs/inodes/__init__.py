"""Nodes, their names and handles, and the resolution of a node to its place in the store."""
