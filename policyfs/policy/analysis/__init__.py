"""Exact answers to questions about a whole policy. The answers hold for all paths, callers and files.

Nothing is sampled at random. The rules of a policy distinguish only a finite number of classes of paths,
callers and files. Each class is tried once. TooHardError is raised if a question has too many classes. Only
the search of canaries.py is not exact: it ends early.
"""
