"""The gate of a mount: decisions, the facts and views that decisions depend on, and the record of decisions.
"""
