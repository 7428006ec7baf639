"""Tests of policies: requests with the answers that a policy must give, in files beside it."""
