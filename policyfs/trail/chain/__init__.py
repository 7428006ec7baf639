"""Chains of lines: digests, seals, proofs, and damage."""
