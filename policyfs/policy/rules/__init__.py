"""Rules at one path for one caller: which match, and which rights they give."""
