"""The server under load, and its peers over the same rows, in one run."""
