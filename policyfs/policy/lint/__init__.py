"""Findings on policies that compile: probable mistakes, each with an id, a reason and a place."""
