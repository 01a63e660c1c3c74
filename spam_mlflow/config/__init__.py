"""Configuration: composed by Hydra from `conf/`, checked whole against pydantic types."""
