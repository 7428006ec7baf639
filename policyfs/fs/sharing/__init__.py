"""Fair shares: what there is only so much of, turns of requests, and pauses in long ones."""
