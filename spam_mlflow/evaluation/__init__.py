"""Evaluation of predictions: metrics, plots, reports and behavioral tests."""
