"""A first policy and its tests, from the user's answers: which app may do what in which directory."""
