"""Names in the store: their exact bytes, names set aside, and records of moves."""
