"""The scoring engine against its peers and against what the machine can do at most."""
