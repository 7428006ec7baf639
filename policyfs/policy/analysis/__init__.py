"""Exact answers about whole policies: over every path, caller and file that the rules distinguish.

Nothing is sampled at random: paths, callers and files fall into finitely many classes, and each class is
tried once. A question that has too many classes raises TooHardError.
"""
