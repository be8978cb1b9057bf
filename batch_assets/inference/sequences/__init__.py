"""Scoring of inputs that differ in length and in what it costs to decode them."""
