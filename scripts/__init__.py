"""Benchmarks, the sample's generator and the local stack: `python -m scripts.NAME`."""
