"""What the parts cost: rows a second, and peak memory. ``python -m benchmarks --help`` says how."""
