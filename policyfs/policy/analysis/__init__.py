"""Exact answers to questions about a whole policy, for all paths, callers and files.

Nothing is sampled at random: the rules distinguish a finite number of classes of paths, callers and files,
and each is tried once. A question with too many raises TooHardError. Only canaries.py is not exact.
"""
