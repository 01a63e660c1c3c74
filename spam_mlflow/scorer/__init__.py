"""Everything that ships with a logged model; it imports nothing else of this project.

This folder is copied whole into each logged model, under a package name of its own (see
`spam_mlflow.registry.model_logging`). That is why its imports are relative.
"""
