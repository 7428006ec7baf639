"""Lines of the trail: events, records, and their schema."""
