"""Globs: their syntax, the names that they match, and the automaton for all globs of a policy."""
