"""Fairness between apps: shares of limited resources, turns of requests, and pauses in long requests."""
