"""Timings beside what a user would do otherwise. Each module runs as `python -m benchmarks.<name>`."""
