"""Tests of policies: requests with the expected answers. The tests are in files beside the policy."""
