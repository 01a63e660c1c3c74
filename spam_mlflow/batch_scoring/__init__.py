"""Scoring inputs of any size in parts: on this machine or on Spark, exactly once, resumable."""
