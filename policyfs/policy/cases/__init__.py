"""Tests of policies: requests with the expected answers. They are in files beside the policy."""
