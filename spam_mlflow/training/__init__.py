"""Fitting a model, and the experiment around it: data, split, metrics and files."""
