"""Benchmarks and generators, run from the project root as `python -m scripts.NAME`."""
