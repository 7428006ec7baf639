"""Findings of `policy lint` on valid policies: probable mistakes, each with an id, a reason and a place."""
