"""Who runs the scoring engine, and on what."""
