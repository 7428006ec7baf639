"""A store as one caller would see it: a walk through the store. The result is shown as text, JSON or a page.
"""
