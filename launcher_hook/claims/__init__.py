"""Devices of resource claims (DRA), and others that a user names: whose they are, said offline."""
