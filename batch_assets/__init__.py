"""Batch inference made of Dagster assets."""
