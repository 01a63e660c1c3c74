"""The commands, one module for each.

Every module has a function `run(settings, cfg)`. `settings` are the command's validated settings;
`cfg` is the composed configuration that they come from, which is logged with a run.
"""
