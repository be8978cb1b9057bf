-- Grain: day and feature. Table: measured_drift (see drift.py).
SELECT * FROM measured_drift
