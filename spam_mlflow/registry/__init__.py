"""Logged models and registered versions: logging, loading and promoting them."""
