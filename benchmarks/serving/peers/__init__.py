"""What the server is compared with; each runs in the environment of the peers."""
