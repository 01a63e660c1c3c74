"""Runs in MLflow, and what is logged to them."""
