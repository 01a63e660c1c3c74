"""Stored inferences: what was predicted, and what people say of it."""
