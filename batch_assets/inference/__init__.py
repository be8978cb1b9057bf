"""The scoring engine: tables of arrays and a model, nothing of Dagster or of any workload."""
