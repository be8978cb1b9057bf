"""Batch results over HTTP: looked up, searched, and completed in real time."""
