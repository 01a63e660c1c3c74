"""One module per command; each has `run(cfg)` and reads like a table of contents."""
