"""The fraud workload: from raw card transactions to scored ones."""
