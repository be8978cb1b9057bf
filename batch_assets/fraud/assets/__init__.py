"""The fraud workload's assets, a module a stage."""
