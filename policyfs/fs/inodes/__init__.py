"""Nodes, their names and handles, and the way from a node to the store."""
